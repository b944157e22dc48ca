"""Push and pull through the parameter server, and through what else would carry gradients, in the same run.

    python scripts/benchmarks/server.py [--sizes 10000 1000000 10000000] [--rounds 5] [--seconds 0.5] [--output FILE]
    python scripts/benchmarks/server.py --scaling [--work 0 1] [--workers 1 2 4] [--shards 1 2]

A push and pull brings a float32 gradient to the weights, applies it, and brings the new weights back; rates are sums
over the workers. Contenders take turns, round by round; the tables show medians. Every contender computes on one
thread and subtracts the gradient from the weights; ours also refuses what is not finite and, where it says nothing
else, takes snapshots and keeps a standby, as its defaults are. An all-reduce of two processes counts as one: both of
them have then seen both gradients, which is what a round of two workers at a server does.

The other part, --scaling, shows what a gradient costs as workers and shards are added, with gradients that take so
many milliseconds of processor time to compute; where workers and shards are more than the cores, the row says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bitquote.errors import InputError, require, require_integer, require_number
from bitquote.server import Client, Server, ServerConfig
from bitquote.server.config import core_count

UPDATE = {"kind": "proximal_gradient", "step_size": 1e-3, "lipschitz": None, "prox": None}
PATIENCE = 60.0
"""Seconds within which a peer's processes must start, and answer beyond the time that they measure."""
WITHOUT_RECOVERY = {"snapshot_every": 0, "standby": False}
Rate = Callable[[float], float]
"""Measures for so many seconds; push and pulls a second."""


class Contender(NamedTuple):
    """`start(size)` is a context in which a `Rate` works; `kind` is floor, ours or peer."""

    name: str
    kind: str
    start: Callable[[int], Any]


def rate_of(exchange: Callable[[], Any], seconds: float) -> float:
    """Calls a second, over so many seconds and at least one call."""
    count, begun = 0, time.perf_counter()
    while True:
        exchange()
        count += 1
        passed = time.perf_counter() - begun
        if passed >= seconds:
            return count / passed


def gradient_of(size: int) -> np.ndarray:
    """Small enough that weights stay finite for as long as anybody measures; float32 (size,)."""
    return np.full(size, 1e-6, np.float32)


@contextmanager
def memory_copies(size: int) -> Iterator[Rate]:
    """The floor: copy the gradient to a slot, subtract it from the weights, copy the weights back."""
    gradient, slot = gradient_of(size), np.zeros(size, np.float32)
    weights, out = np.zeros(size, np.float32), np.zeros(size, np.float32)

    def exchange() -> None:
        np.copyto(slot, gradient)
        np.subtract(weights, slot, out=weights)
        np.copyto(out, weights)

    yield partial(rate_of, exchange)


class Load(NamedTuple):
    """What a worker of ours does."""

    seconds: float
    in_place: bool = False
    """Gradient and weights are views of what the server reads and writes."""
    work: float = 0.0
    """Milliseconds of processor time that a gradient takes."""


def drive(client: Client, rank: int, load: Load) -> tuple[float, float]:
    """One worker: push and pulls a second, and the median seconds of one, work not counted."""
    gradient = client.gradient if load.in_place else gradient_of(client.size)
    gradient[:] = 1e-6
    out = None if load.in_place else np.empty(client.size, np.float32)
    for _ in range(3):
        client.exchange(gradient, out)
    taken: list[float] = []

    def exchange() -> None:
        until = time.thread_time() + load.work * 1e-3
        while time.thread_time() < until:
            pass
        begun = time.perf_counter()
        client.exchange(gradient, out)
        taken.append(time.perf_counter() - begun)

    client.collect("begin")
    rate = rate_of(exchange if load.work else partial(client.exchange, gradient, out), load.seconds)
    client.collect("end")
    return rate, statistics.median(taken) if taken else 1.0 / rate


@contextmanager
def ours(size: int, engine: str, workers: int, *, in_place: bool = False, **settings: Any) -> Iterator[Rate]:
    """The parameter server; workers are processes of their own, but under inproc."""
    config = ServerConfig(engine, workers, consistency="async", allow_oversubscription=True, **settings)
    with Server(np.zeros(size, np.float32), UPDATE, config) as server:

        def rate(seconds: float) -> float:
            return sum(found[0] for found in values(server, Load(seconds, in_place)))

        yield rate


def values(server: Server, load: Load) -> list[tuple[float, float]]:
    """What `drive` returns in every worker."""
    outcomes = server.run(drive, load)
    for outcome in outcomes:
        if outcome.error is not None:
            raise RuntimeError(f"worker {outcome.rank}: {outcome.error}")
    return [outcome.value for outcome in outcomes]


@contextmanager
def ray_actor(size: int, workers: int) -> Iterator[Rate]:
    """A plain Ray actor that holds the weights, and tasks that call it."""
    import ray

    class Weights:
        def __init__(self) -> None:
            self.weights = np.zeros(size, np.float32)

        def push_pull(self, gradient: np.ndarray) -> np.ndarray:
            self.weights -= gradient
            return self.weights

        def ready(self) -> None:
            pass

    def work(actor: Any, seconds: float) -> float:
        gradient = gradient_of(size)

        def exchange() -> np.ndarray:
            return ray.get(actor.push_pull.remote(gradient))

        exchange()
        return rate_of(exchange, seconds)

    free: Any = ray.remote(num_cpus=0)
    worker, actor = free(work), free(Weights).remote()
    ray.get(actor.ready.remote(), timeout=PATIENCE)

    def rate(seconds: float) -> float:
        return sum(ray.get([worker.remote(actor, seconds) for _ in range(workers)], timeout=PATIENCE + seconds))

    try:
        yield rate
    finally:
        ray.kill(actor)


@contextmanager
def processes(size: int, function: Callable[..., None]) -> Iterator[Rate]:
    """Two processes that run `function(rank, meeting, pipe, size)` and answer seconds with a rate."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        pairs = [context.Pipe() for _ in range(2)]
        meeting = f"file://{directory}/meeting"
        started = [
            context.Process(target=peer, args=(function, rank, meeting, pairs[rank][1], size), daemon=True)
            for rank in range(2)
        ]
        ends = [pair[0] for pair in pairs]
        try:
            for process in started:
                process.start()
            for end in ends:
                answer(end, 0.0)  # it is ready

            def rate(seconds: float) -> float:
                for end in ends:
                    end.send(seconds)
                return max(answer(end, seconds) for end in ends)

            yield rate
            for end in ends:
                end.send(None)
            for process in started:
                process.join(PATIENCE)
        finally:
            for process in started:
                if process.is_alive():
                    process.kill()
                process.join()


def answer(end: Any, seconds: float) -> float:
    """The next answer of a peer's process; raises `RuntimeError` when it has failed, or says nothing."""
    if not end.poll(PATIENCE + seconds):
        raise RuntimeError(f"no answer in {PATIENCE + seconds:g} s")
    found = end.recv()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def peer(function: Callable[..., None], rank: int, meeting: str, pipe: Any, size: int) -> None:
    """Run `function` in a process of its own; if it fails, one line says why."""
    warnings.simplefilter("ignore")  # torch's own calls of what it has deprecated
    on_loopback()
    try:
        function(rank, meeting, pipe, size)
    except Exception as error:
        pipe.send((str(error).splitlines() or [type(error).__name__])[0])


def on_loopback() -> None:
    """Have torch's transports use the loopback interface, before they start."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if names:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["TP_SOCKET_IFNAME"] = names[0]


def gloo(rank: int, meeting: str, pipe: Any, size: int) -> None:
    """All-reduce of the gradient in two processes, each of which holds the weights."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    gradient, reduced, weights = torch.full((size,), 1e-6), torch.zeros(size), torch.zeros(size)

    def exchange() -> None:
        reduced.copy_(gradient)
        distributed.all_reduce(reduced)
        weights.sub_(reduced)

    exchange()
    pipe.send(0.0)
    while (seconds := pipe.recv()) is not None:
        # Both must stop after the same one: the first measures a few and says how many there will be.
        count = torch.tensor([max(1, int(rate_for_some(exchange) * seconds))])
        distributed.broadcast(count, 0)
        begun = time.perf_counter()
        for _ in range(int(count)):
            exchange()
        pipe.send(int(count) / (time.perf_counter() - begun))
    distributed.destroy_process_group()


def rate_for_some(exchange: Callable[[], None], count: int = 5) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        exchange()
    return count / (time.perf_counter() - begun)


served: Any = None
"""The weights of `rpc`'s first process."""


def push_pull(gradient: Any) -> Any:
    """Called in `rpc`'s first process by the second."""
    served.sub_(gradient)
    return served


def rpc(rank: int, meeting: str, pipe: Any, size: int) -> None:
    """torch.distributed.rpc: the second process calls a function in the first."""
    import torch
    from torch.distributed import rpc as remote

    global served
    torch.set_num_threads(1)
    served = torch.zeros(size)
    options = remote.TensorPipeRpcBackendOptions(init_method=meeting)
    remote.init_rpc(f"process{rank}", rank=rank, world_size=2, rpc_backend_options=options)
    gradient = torch.full((size,), 1e-6)

    def exchange() -> None:
        remote.rpc_sync("process0", push_pull, args=(gradient,))

    if rank:
        exchange()
    pipe.send(0.0)
    while (seconds := pipe.recv()) is not None:
        pipe.send(rate_of(exchange, seconds) if rank else 0.0)
    remote.shutdown()


CONTENDERS = (
    Contender("memory copies", "floor", memory_copies),
    Contender("shm, 1 worker", "ours", partial(ours, engine="shm", workers=1)),
    Contender("shm, 2 workers", "ours", partial(ours, engine="shm", workers=2)),
    Contender("shm in place, 1 worker", "ours", partial(ours, engine="shm", workers=1, in_place=True)),
    Contender("shm in place, 2 workers", "ours", partial(ours, engine="shm", workers=2, in_place=True)),
    Contender("shm without recovery, 1 worker", "ours", partial(ours, engine="shm", workers=1, **WITHOUT_RECOVERY)),
    Contender("inproc, 1 worker", "ours", partial(ours, engine="inproc", workers=1)),
    Contender("ray, 1 worker", "ours", partial(ours, engine="ray", workers=1)),
    Contender("ray, 2 workers", "ours", partial(ours, engine="ray", workers=2)),
    Contender("Ray actor, 1 worker", "peer", partial(ray_actor, workers=1)),
    Contender("Ray actor, 2 workers", "peer", partial(ray_actor, workers=2)),
    Contender("torch.distributed.rpc, 1 worker", "peer", partial(processes, function=rpc)),
    Contender("gloo all-reduce, 2 processes", "peer", partial(processes, function=gloo)),
)


def needs_ray(contender: Contender) -> bool:
    return "ray" in contender.name.lower()


def measure(size: int, contenders: list[Contender], rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Rates of every contender that starts, by name; None for the others, whose reason is printed."""
    rates: dict[str, list[float] | None] = {}
    with ExitStack() as stack:
        started: dict[str, Rate] = {}
        for contender in track(contenders, f"{size:,} floats: start", console=console, transient=True):
            try:
                started[contender.name] = stack.enter_context(contender.start(size))
            except Exception as error:  # whatever keeps one from running must not end the others
                rates[contender.name] = None
                reason = (str(error).splitlines() or [""])[0]
                console.print(f"{contender.name}, {size:,} floats: {type(error).__name__}: {reason}", highlight=False)
        for _ in track(range(rounds), f"{size:,} floats: rounds", console=console, transient=True):
            for name, rate in started.items():
                found = rates.setdefault(name, [])
                assert found is not None
                found.append(rate(seconds))
    return rates


def speed_table(measured: dict[int, dict[str, Any]], contenders: list[Contender], seconds: float) -> Table:
    """Medians, and each as a multiple of the best peer's."""
    table = Table(title=f"push and pull a second; {core_count()} cores, {seconds:g} s a measurement, medians")
    table.add_column("")
    for size in measured:
        table.add_column(f"{size:,} floats", justify="right")
        table.add_column("x best peer", justify="right")
    medians = {
        size: {name: statistics.median(rates) for name, rates in found.items() if rates}
        for size, found in measured.items()
    }
    last = {contender.kind: contender.name for contender in contenders}.values()
    for contender in contenders:
        row = []
        for found in medians.values():
            peers = [found[other.name] for other in contenders if other.kind == "peer" and other.name in found]
            rate = found.get(contender.name)
            row.append("-" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}")
            row.append("-" if rate is None or not peers else f"{rate / max(peers):.2f}")
        table.add_row(contender.name, *row, end_section=contender.name in last)
    return table


@contextmanager
def ray_cluster(console: Console, workers: int) -> Iterator[bool]:
    """One local cluster that ours and the plain actor share; False where there is no Ray."""
    from bitquote.server.ray.cluster import Cluster

    try:
        cluster = Cluster(ServerConfig("ray", workers, allow_oversubscription=True))
    except InputError as error:
        console.print(f"Ray is left out: {error}", highlight=False)
        yield False
        return
    try:
        yield True
    finally:
        cluster.close()


def compare(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The first part."""
    with nullcontext(False) if options.no_ray else ray_cluster(console, 2) as has_ray:
        contenders = [contender for contender in CONTENDERS if has_ray or not needs_ray(contender)]
        measured = {size: measure(size, contenders, options.rounds, options.seconds, console) for size in options.sizes}
    console.print(speed_table(measured, contenders, options.seconds))
    return {"push_and_pull": {str(size): rates for size, rates in measured.items()}}


def scale(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The second part: rates against workers, shards and the time that a gradient takes."""
    grid = [
        (size, shards, work, workers)
        for size in options.sizes
        for shards in options.shards
        for work in options.work
        for workers in options.workers
    ]
    rows = []
    for size, shards, work, workers in track(grid, "scaling", console=console, transient=True):
        config = ServerConfig("shm", workers, shards, consistency="async", allow_oversubscription=True)
        with Server(np.zeros(size, np.float32), UPDATE, config) as server:
            load = Load(options.seconds, work=work)
            found = [values(server, load) for _ in range(options.rounds)]
        row = {
            "size": size,
            "shards": shards,
            "work_ms": work,
            "workers": workers,
            "rate": statistics.median(sum(rate for rate, _ in one) for one in found),
            "exchange_us": 1e6 * statistics.median(taken for one in found for _, taken in one),
            "oversubscribed": workers + shards > core_count(),
        }
        rows.append(row)
    console.print(scaling_table(rows))
    return {"scaling": rows}


def scaling_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"gradients a second through shm, async, {core_count()} cores; *: more processes than cores")
    for name in (
        "floats",
        "shards",
        "ms a gradient",
        "workers",
        "gradients/s",
        "x first row",
        "MB/s",
        "µs an exchange",
    ):
        table.add_column(name, justify="right")
    first: dict[tuple[Any, ...], float] = {}
    for row in rows:
        base = first.setdefault((row["size"], row["shards"], row["work_ms"]), row["rate"])
        table.add_row(
            f"{row['size']:,}",
            str(row["shards"]),
            f"{row['work_ms']:g}",
            f"{row['workers']}{'*' if row['oversubscribed'] else ''}",
            f"{row['rate']:,.0f}",
            f"{row['rate'] / base:.2f}",
            f"{8e-6 * row['size'] * row['rate']:,.0f}",
            f"{row['exchange_us']:,.0f}",
        )
    return table


def arguments() -> argparse.Namespace:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--sizes", type=int, nargs="+", help="floats (10000 1000000 10000000; scaling: 10000 1000000)")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    words.add_argument("--scaling", action="store_true", help="workers and shards instead of peers")
    words.add_argument("--work", type=float, nargs="+", default=[0.0, 1.0], help="scaling: ms a gradient (0 1)")
    words.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="scaling (1 2 4)")
    words.add_argument("--shards", type=int, nargs="+", default=[1, 2], help="scaling (1 2)")
    words.add_argument("--no-ray", action="store_true", help="leave Ray out")
    words.add_argument("--output", type=Path, help="a file for the figures, JSON")
    options = words.parse_args()
    options.sizes = options.sizes or [10_000, 1_000_000, *([] if options.scaling else [10_000_000])]
    for name in ("sizes", "workers", "shards"):
        for value in getattr(options, name):
            require_integer(f"--{name}", value, 1, 2**28 if name == "sizes" else 256)
    require_integer("--rounds", options.rounds, 1)
    require_number("--seconds", options.seconds, 0.01, 3.0)
    for work in options.work:
        require_number("--work", work, 0.0, 1000.0)
    output = options.output
    require(output is None or output.parent.is_dir(), "--output", str(output), "a file in a folder that exists")
    return options


def main() -> None:
    """Measure, print, and write what was asked for."""
    options, console = arguments(), Console(width=120)
    found = scale(options, console) if options.scaling else compare(options, console)
    if options.output is not None:
        common = {"cores": core_count(), "rounds": options.rounds, "seconds": options.seconds}
        options.output.write_text(json.dumps(common | found, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
