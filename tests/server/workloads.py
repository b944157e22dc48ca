"""What workers do in `test_engines.py`: functions that any engine's new processes can import."""

from __future__ import annotations

from typing import Any

import numpy as np
from server.history import entry

from bitquote.server import Client, Rejected

PLAIN = {"kind": "proximal_gradient", "step_size": 0.5, "lipschitz": None, "prox": None}


def count(client: Client, rank: int, pushes: int) -> tuple[list[list[Any]], list[float]]:
    """Push one hot gradients, an entry for each worker; the log, and this worker's own weight after each push."""
    client.collect("start")
    gradient, weights = np.zeros(client.size, np.float32), np.empty(client.size, np.float32)
    gradient[rank] = gradient[-1 - rank] = 1.0  # at both ends: of the first and the last shard
    log, own = [], []
    for n in range(pushes):
        if n % 3 == 2:  # push and pull apart
            pushed = client.push(gradient)
            log.append(entry("push", client.wait(pushed)))
            log.append(entry("pull", client.wait(client.pull(weights))))
        else:
            log.append(entry("exchange", client.exchange(gradient, weights)))
        assert weights[rank] == weights[-1 - rank]
        own.append(float(weights[rank]))
    return log, own


def descend(client: Client, rank: int, pushes: int) -> bytes:
    """Noisy gradient descent from where the weights are; the weights at the end, when all are through."""
    weights = client.weights()
    random = np.random.default_rng(rank)
    client.collect("start")  # nobody pushes before all have pulled
    for _ in range(pushes):
        noise = random.normal(size=client.size).astype(np.float32)
        client.exchange(weights + noise, weights, hyper={"step_size": 0.1} if rank == 0 else None)
    client.collect("end")
    return client.weights().tobytes()


def cooperate(client: Client, rank: int) -> dict[str, Any]:
    """Bring the model, share work, meet, change consistency, push nonsense; the last worker fails on purpose."""
    seen: dict[str, Any] = {"first": client.define(np.ones(6, np.float32), PLAIN, "model")}
    seen["met"] = client.collect("defined", {"rank": rank, "list": [1.5, None, "ä"]})
    try:
        client.define(np.ones(6, np.float32), PLAIN, "another")
    except Rejected as error:
        seen["rejected"] = str(error)
    seen["pieces"] = []
    while (index := client.draw("work", 17, 2)) is not None:
        seen["pieces"].append(index)
    client.collect("shared")
    if rank == 2:
        raise ValueError("one line\nand another")
    if rank == 0:
        client.configure(consistency="async")
    client.collect("configured")
    bad = np.array([0.0, 0.0, np.nan, 0.0, 0.0, 1.0], np.float32)
    result = client.exchange(bad, weights := np.empty(6, np.float32))
    seen["bad"] = (result.status.name, result.reason, bool(np.isfinite(weights).all()))
    seen["hyper"] = client.wait(client.push(np.zeros(6, np.float32), hyper={"step_size": 0.25})).status.name
    seen["counts"] = (client.pushed, client.applied, client.refused)
    seen["last"] = client.collect("last", rank)
    return seen
