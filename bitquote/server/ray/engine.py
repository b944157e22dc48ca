"""The Ray engine: shards and workers as actors and tasks of a cluster, one machine's own or an existing one.

Shards are named, detached actors in the namespace "bitquote", spread over the nodes, and reserve no CPU; a keeper
beside the driver makes successors of those that die (see `keeper`). Every node needs the same bitquote.

Functions and arguments of `run`, and all messages, travel by Ray's own serialisation, which is pickle: whoever holds
the cluster's token may run code on it. Our own token is asked for besides, at every call.
"""

from __future__ import annotations

import os
import queue
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bitquote.server import snapshot
from bitquote.server.client import Client
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Disconnected, Rejected, ServerError, ServerUnavailable
from bitquote.server.line import Connect
from bitquote.server.message import Kind, Message, Reply, Status
from bitquote.server.opening import open_shard
from bitquote.server.ray.cluster import Cluster, join, one_line
from bitquote.server.ray.keeper import Keeper
from bitquote.server.ray.shard_actor import NAMESPACE, remote
from bitquote.server.server import Outcome, line_of, say_absent

KEEPER_ANSWERS = 10.0
"""Seconds that the keeper may take to answer."""
CLUSTER_STARTS = 120.0
"""Seconds in which all shards must have come into service."""


class RayEngine:
    """Shards on a Ray cluster.

    Args:
        config: `address` None starts a local cluster, with Ray's token authentication on, and ends it with `close`;
            "auto" or "host:port" is a cluster that exists, on which `close` ends what is ours.
        token: which clients must show.
        directory: where the keeper writes snapshots and the log, on this machine; None: neither is written.
        definitions: one `pack_definition` a shard, or None: the first worker brings the model.
        restore: go on from the newest snapshots in `directory`.

    Raises:
        Rejected: Ray is missing, or the cluster does not answer or refuses our token.
        SnapshotError: what is in the directory is damaged, or of another model.
    """

    def __init__(
        self,
        config: ServerConfig,
        token: str,
        directory: Path | None = None,
        definitions: Sequence[bytes] | None = None,
        restore: bool = False,
    ) -> None:
        kept, terms = _beginning(config, directory, definitions, restore)
        self.config = config
        self.token = token
        self.name = f"bitquote-{secrets.token_hex(4)}"
        self.address = f"ray:{self.name}"
        self._cluster = Cluster(config)
        self._keeper: Any = None
        try:
            self._start(directory, kept, terms)
        except BaseException:
            self.close()
            raise

    def connects(self) -> list[Connect]:
        """One function a shard that makes a channel to it."""
        return [partial(RayChannel, self._keeper, self.token, shard) for shard in range(self.config.shards)]

    def client_options(self) -> dict[str, Any]:
        """The deadline."""
        return {"deadline": self.config.deadline}

    def run(self, function: Callable[..., Any], workers: int, arguments: tuple[Any, ...] = ()) -> list[Outcome]:
        """`function(client, rank, *arguments)` of every rank in a process of its own, spread over the nodes.

        Each has a CPU of Ray's count. A worker that dies is an `Outcome.error`; the others go on.
        """
        import ray
        from ray.exceptions import RayError

        share = 1.0
        if self.config.allow_oversubscription:
            share = min(1.0, _cpus() / workers)
        elif workers > _cpus():
            raise Rejected(f"server.workers is {workers}: the Ray cluster has {_cpus():g} CPUs")
        work = ray.remote(num_cpus=share, max_retries=0, scheduling_strategy="SPREAD")(_work)
        try:
            given = ray.put((function, arguments))
        except Exception as error:  # pickle's complaints are of many classes
            raise Rejected(f"the workers' function or its arguments cannot be pickled: {one_line(error)}") from None
        ranks = {work.remote(self.address, self.token, self.config, rank, given): rank for rank in range(workers)}
        outcomes: dict[int, Outcome] = {}
        try:
            while ranks:
                done, _ = ray.wait(list(ranks), num_returns=1)
                rank = ranks[done[0]]
                try:
                    value, error = ray.get(done[0])
                    outcomes[rank] = Outcome(rank, value, error)
                except RayError as error:
                    outcomes[rank] = Outcome(rank, None, f"died: {one_line(error)}")
                    self._bury(rank)
                del ranks[done[0]]
                if outcomes[rank].error is not None:
                    with suppress(ServerError):
                        if not self._ask("joined", rank):
                            say_absent(self.connects(), self.config.deadline)
        finally:
            for task in ranks:  # this run was interrupted
                ray.cancel(task, force=True)
            with suppress(ServerError):
                self._ask("dismiss")
        return [outcome for _, outcome in sorted(outcomes.items())]

    def pids(self) -> dict[str, int]:
        """Process ids of shards ("server.0"), workers ("worker.1") and the keeper, on whichever machine each is."""
        return self._ask("pids")

    def nodes(self) -> list[str]:
        """The node of every shard, as Ray's hexadecimal id."""
        return self._ask("nodes")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What has happened at the shards lately."""
        return self._ask("events")

    def close(self) -> None:
        """End our actors, and the cluster if it is our own. Nothing is left behind."""
        import ray

        if self._keeper is not None and ray.is_initialized():
            with suppress(ServerError):  # if it is gone, the shards follow as soon as they notice
                self._ask("close")
            ray.kill(self._keeper)
            self._keeper = None
        self._cluster.close()

    def _start(self, directory: Path | None, kept: list[bytes | None], terms: list[int]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Not detached: it goes when this process goes, however it goes, and the shards go when they miss it.
        self._keeper = (
            remote(Keeper)
            .options(name=f"{self.name}.keeper", namespace=NAMESPACE, scheduling_strategy=here)
            .remote(self.config, self.name, self.token, directory and directory.absolute(), kept, terms)
        )
        self._ask("start", timeout=CLUSTER_STARTS)

    def _ask(self, question: str, *arguments: Any, timeout: float = KEEPER_ANSWERS) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        try:
            return ray.get(getattr(self._keeper, question).remote(*arguments), timeout=timeout)
        except GetTimeoutError:
            raise ServerUnavailable(f"no answer from the keeper of the shards for {timeout:g} s") from None
        except RayError as error:
            raise ServerError(f"the keeper of the shards failed: {one_line(error)}") from None

    def _bury(self, rank: int) -> None:
        """A worker has died: the shards hear it sooner than by its silence."""
        for connect in self.connects():
            with suppress(ServerError):  # a shard that is being made anew will miss the worker's signs of life
                channel = connect()
                assert isinstance(channel, RayChannel)
                channel.bury(rank)


class RayChannel:
    """A connection to a shard: calls of its actor, whose results arrive in a queue as they come.

    Raises:
        Disconnected: there is no such shard at the moment.
        Rejected: the token is wrong.
        ServerUnavailable: the shard is gone for good.
    """

    def __init__(self, keeper: Any, token: str, shard: int) -> None:
        self._keeper = keeper
        self._token = token
        self._shard = shard
        self._member = (-1, 0)
        self._broken: str | None = None
        self._replies: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._checked = time.monotonic()
        found = self._ask(keeper.locate, token, shard)
        if isinstance(found, ServerError):
            raise found
        if found is None:
            raise Disconnected(f"shard {shard} is not in service")
        self._actor, self._term = found

    def send(self, message: Message) -> None:
        """Call the actor; the arrays are copied, or lie in Ray's object store, when this returns."""
        if self._broken is not None:
            raise Disconnected(self._broken)
        kind, *others, values, body = message
        call = self._call(self._actor.handle, (self._token, int(kind), *others, values, dict(body)))
        call.future().add_done_callback(self._replies.put)

    def receive(self, timeout: float) -> Reply | None:
        """The next reply; None after `timeout` seconds. Does not poll."""
        from ray.exceptions import RayTaskError

        if self._broken is not None:
            raise Disconnected(self._broken)
        try:
            answer = self._replies.get(timeout=max(timeout, 0.0)).result()
        except queue.Empty:
            self._check_term()
            return None
        except RayTaskError as error:
            raise ServerError(f"shard {self._shard} failed at a request: {one_line(error)}") from None
        except Exception as error:
            raise self._break(one_line(error)) from None
        if isinstance(answer, str):
            raise self._break(answer)
        reply = Reply(Kind(answer[0]), Status(answer[1]), *answer[2:])
        if reply.status == Status.DONE and reply.kind == Kind.JOIN:
            self._member = (reply.worker, reply.epoch)
        return reply

    def gradient(self) -> None:
        """None: Ray copies whatever it is given."""

    def close(self) -> None:
        """Let go. A shard that is still at the other end takes the worker out at once."""
        if self._broken is None:
            if self._member[1]:
                with suppress(Disconnected):
                    self._call(self._actor.gone, self._token, *self._member)
            self._broken = "closed"

    def bury(self, worker: int) -> None:
        """Tell the shard that a worker has died."""
        self._ask(self._actor.gone, self._token, worker, None)

    def _check_term(self) -> None:
        """A shard that stands still ends no call, but the keeper knows whether it has a successor."""
        now = time.monotonic()
        if now - self._checked > 1.0:
            self._checked = now
            if self._ask(self._keeper.term, self._shard) != self._term:
                raise self._break(f"shard {self._shard} has a successor")

    def _ask(self, method: Any, *arguments: Any) -> Any:
        """Call a method of an actor and wait for its result."""
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(self._call(method, *arguments), timeout=KEEPER_ANSWERS)
        except RayError as error:
            raise self._break(one_line(error)) from None

    def _call(self, method: Any, *arguments: Any) -> Any:
        """Call a method of an actor."""
        import ray

        if not ray.is_initialized():  # or Ray would start a cluster, to find no actor there
            raise self._break("the connection to the Ray cluster is closed")
        try:
            return method.remote(*arguments)
        except Exception as error:  # Ray raises what it likes when the cluster has gone
            raise self._break(one_line(error)) from None

    def _break(self, why: str) -> Disconnected:
        self._broken = why
        return Disconnected(why)


def connects(address: str, token: str) -> list[Connect]:
    """For clients of the server "ray:<name>", one function a shard that makes a channel to it.

    The cluster is the one that this process is connected to, else what Ray calls "auto": the one that RAY_ADDRESS names
    or that runs on this machine. Raises `Rejected` when there is no such server on it, or the token is wrong.
    """
    import ray
    from ray.exceptions import RayError

    name = address.removeprefix("ray:")
    if not ray.is_initialized():
        join("auto")
    try:
        keeper = ray.get_actor(f"{name}.keeper", namespace=NAMESPACE)
        shards: Any = ray.get(keeper.shards.remote(token), timeout=KEEPER_ANSWERS)
    except (ValueError, RayError):
        raise Rejected(f"there is no server {name!r} on this Ray cluster") from None
    if isinstance(shards, ServerError):
        raise shards
    return [partial(RayChannel, keeper, token, shard) for shard in range(shards)]


def _work(
    address: str, token: str, config: ServerConfig, rank: int, given: tuple[Callable[..., Any], tuple[Any, ...]]
) -> tuple[Any, str | None]:
    """A worker's process: (value, None), or (None, the error in one line)."""
    import ray

    keeper = ray.get_actor(f"{address.removeprefix('ray:')}.keeper", namespace=NAMESPACE)
    ray.get(keeper.enrol.remote(rank, os.getpid(), False))
    function, arguments = given
    try:
        client = Client(connects(address, token), worker=rank, deadline=config.deadline, seed=rank)
        ray.get(keeper.enrol.remote(rank, os.getpid(), True))
        try:
            value = function(client, rank, *arguments)
        finally:
            client.leave()
        return value, None
    except Exception as error:
        return None, line_of(error)


def _beginning(
    config: ServerConfig, directory: Path | None, definitions: Sequence[bytes] | None, restore: bool
) -> tuple[list[bytes | None], list[int]]:
    """What every shard begins with: a snapshot, if the model is known, and its term."""
    kept: list[bytes | None] = []
    terms = []
    for shard in range(config.shards):
        now = time.monotonic()
        definition = None if definitions is None else definitions[shard]
        state = open_shard(config, shard, definition, directory, restore=restore, term=0, now=now)
        state.dismiss(now)
        kept.append(snapshot.pack(*state.snapshot()) if state.size else None)
        terms.append(state.term + 1 if state.size else state.term)
    return kept, terms


def _cpus() -> float:
    import ray

    return float(ray.cluster_resources().get("CPU", 0.0))
