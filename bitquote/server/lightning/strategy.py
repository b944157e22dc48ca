"""Lightning's strategy over a parameter server: an unmodified module trains in several workers.

    import bitquote.server

    trainer = lightning.pytorch.Trainer(strategy="parameter_server", accelerator="cpu", devices=2)
    trainer.fit(module)

Lightning 2.6 was read for what it asks of a strategy, and where it asks it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.core.optimizer import _MockOptimizer
from lightning.pytorch.trainer.states import RunningStage, TrainerFn

from bitquote.errors import InputError, require, require_choice, require_integer, require_number
from bitquote.server.client import Client
from bitquote.server.config import ServerConfig
from bitquote.server.errors import Rejected, ServerError
from bitquote.server.lightning.collectives import Collectives
from bitquote.server.lightning.launcher import ServerLauncher
from bitquote.server.lightning.leading import LedStrategy
from bitquote.server.lightning.optimizer import Exchange, RemoteOptimizer, remote
from bitquote.server.lightning.sharing import SharedSequence
from bitquote.server.lightning.worker import EpochCallback, check_module
from bitquote.server.monitor import log_statistics
from bitquote.server.server import Server


class ParameterServerStrategy(LedStrategy):
    """Gradients of all workers travel to a parameter server, which updates the weights they go on with.

    `Trainer(devices=N)`, or `workers`, says how many workers there are: processes of their own, save with the engine
    `inproc`, which trains in this process with one. Validation, test and prediction outside of `fit` need no server
    and run in this process.

    Every worker counts its own steps, epochs and schedules. A data loader is divided by Lightning's
    DistributedSampler. A plain sequence as training data (`range`, for one) is shared out piece by piece instead, so
    that the others do what a worker that dies had not drawn yet; see `SharedSequence`. With one worker both are as
    without a server.

    The weights live on the server: what a module does to its own outside of the optimisers is lost at the next step.
    Buffers (of batch normalisation) stay each worker's own, and the leader's are the result.

    Args:
        config: of the server; its number of workers does not count. Its fields may also be given by their names.
        workers: overrides `Trainer(devices=...)`.
        directory: where the server leaves its snapshots and its log; None: in a place that ends with the run.
        collective_deadline: seconds that workers wait for each other at the end of an epoch, at a checkpoint, ...
    """

    strategy_name = "parameter_server"

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        workers: int | None = None,
        directory: str | Path | None = None,
        collective_deadline: float = 600.0,
        **fields: Any,
    ) -> None:
        known = {field.name for field in fields_of(ServerConfig)}
        for name in fields:
            if name not in known:
                raise InputError(f"ParameterServerStrategy has no argument {name!r}: must be of {', '.join(known)}")
        config = replace(config or ServerConfig(), **fields)
        require_choice("server.engine", config.engine, ("inproc", "shm", "ray"))
        devices = None if workers is None else [torch.device("cpu")] * require_integer("workers", workers, 1, 1024)
        super().__init__(parallel_devices=devices)
        self.directory = directory
        self.num_nodes = 1
        """Set by the trainer."""
        self._config = config
        self._collective_deadline = require_number("collective_deadline", collective_deadline, 0.1)
        self._server: Server | None = None
        self._client: Client | None = None
        self._shared = 0
        self._alone = False
        self._callback = EpochCallback(self)
        self._statistics: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        left = {"_server": None, "_lock": None, "_optimizers": [], "lr_scheduler_configs": []}
        return {**super().__getstate__(), **left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lock = threading.Lock()

    # What there is.

    @property
    def config(self) -> ServerConfig:
        """The server's, with the number of workers that the trainer has given."""
        return replace(self._config, workers=self._workers)

    @property
    def parameter_version(self) -> int:
        """How many pushes of all workers the weights have seen that this worker has now."""
        return 0 if self._client is None else self._client.version

    def statistics(self) -> dict[str, Any]:
        """The server's (see `Client.statistics`), from any thread: as they are, or were when training ended."""
        # The virtual clock of `inproc` has one thread: there they are as new as the last log.
        with self._lock:
            if self._server is not None and self._client is None:
                with suppress(ServerError):
                    self._statistics = self._server.statistics()
            return self._statistics

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")

    def model_to_device(self) -> None:
        assert self.model is not None
        self.model.to(self.root_device)

    @property
    def is_distributed(self) -> bool:
        """Whether data loaders are divided. One worker keeps the order that they have without a server."""
        return self.world_size > 1

    @property
    def world_size(self) -> int:
        return 1 if self._alone else self._workers

    @property
    def _workers(self) -> int:
        return len(self.parallel_devices or [0])

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    # Beginning and end.

    def _configure_launcher(self) -> None:
        """The trainer is complete: refuse what cannot work with it."""
        if not isinstance(self.accelerator, CPUAccelerator):
            name = type(self.accelerator).__name__
            raise Rejected(f"the accelerator is {name}: a parameter server needs Trainer(accelerator='cpu')")
        require(self.num_nodes == 1, "num_nodes", self.num_nodes, "1: the engine ray finds the nodes of its cluster")
        if self._layer_sync is not None:
            raise Rejected("SyncBatchNorm (sync_batchnorm=True) is not possible with a parameter server")
        config = self.config
        if config.engine != "inproc":
            self._launcher = ServerLauncher(self)
        elif config.workers > 1:
            raise Rejected(f"devices is {config.workers}: must be 1 with the engine inproc; take shm for more")

    def open(self, module: LightningModule) -> Server:
        """The server of a `fit`, unless something forbids it."""
        check_module(module)
        self._statistics = {}
        self._server = Server(None, config=self.config, directory=self.directory)
        return self._server

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self.statistics()
            with self._lock:
                self._server.close()
                self._server = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While this process works by itself."""
        self._alone = True
        try:
            yield
        finally:
            self._alone = False

    def attach(self, client: Client, rank: int) -> None:
        """This process is a worker from now on."""
        self._client = client
        self._collectives = Collectives(client, self._collective_deadline, self._led)
        self.environment.place(rank, self.world_size)
        self._announce()

    def place(self, host: str) -> None:
        """Find this worker's number among those of the same host, for what is done once a host."""
        assert self._collectives is not None
        hosts = self._collectives.meet("place", host)
        here = [worker for worker in hosts if hosts[worker] == host]
        node = sorted(set(hosts.values())).index(host)
        self.environment.place(self.global_rank, self.world_size, here.index(self._collectives.client.worker), node)
        self._announce()

    def setup_environment(self) -> None:
        trainer = self._trainer
        if trainer.state.fn == TrainerFn.FITTING:
            if self._client is None:
                self.attach(self.open(trainer.lightning_module).client(), 0)
            trainer.callbacks.insert(0, self._callback)
        super().setup_environment()

    def setup_optimizers(self, trainer: Trainer) -> None:
        super().setup_optimizers(trainer)
        self._exchange = None
        if self._client is None or any(isinstance(optimizer, _MockOptimizer) for optimizer in self.optimizers):
            return
        assert self._collectives is not None
        exchange = Exchange(self._client, trainer.lightning_module, self.optimizers, self._collectives.depose)
        stand_ins = {id(own): remote(own, exchange, index) for index, own in enumerate(self.optimizers)}
        for config in self.lr_scheduler_configs:
            config.scheduler.optimizer = stand_ins[id(config.scheduler.optimizer)]
        self.optimizers = list(stand_ins.values())
        self._exchange = exchange

    def on_train_start(self) -> None:
        """Modules and callbacks have had their say about the weights: the server may have them."""
        if self._exchange is not None:
            loaded = [optimizer.loaded for optimizer in self._optimizers if isinstance(optimizer, RemoteOptimizer)]
            states = [state for state in loaded if state is not None]
            self._exchange.define(states if len(states) == len(loaded) else None)
            self.barrier("defined")
            self._exchange.pull()

    def teardown(self) -> None:
        module = self.lightning_module
        if module is not None and module._trainer is not None and self._callback in module.trainer.callbacks:
            module.trainer.callbacks.remove(self._callback)
        if self._server is not None and self._client is not None:  # inproc
            self._release()
        super().teardown()

    def finished(self) -> dict[str, list[Any]]:
        """The states of optimisers and schedulers, for checkpoints that are saved after the training."""
        return {
            "optimizers": [self.optimizer_state(optimizer) for optimizer in self.optimizers],
            "schedulers": [config.scheduler.state_dict() for config in self.lr_scheduler_configs],
        }

    def _release(self) -> None:
        """The training in this process is over, or has failed."""
        assert self._client is not None and self._server is not None
        if self._exchange is not None:
            self._exchange.close()
        with suppress(ServerError):
            self._statistics = self._client.statistics()
        self._client.leave()
        self._client = self._collectives = None
        with self._lock:
            self._server.close()
            self._server = None

    # What happens at the ends of epochs.

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self._shared and self._collectives is not None:
            self._collectives.apart = True

    def on_validation_start(self) -> None:
        """All workers validate the same weights: those that the pushes of all have led to."""
        trainer, collectives = self._trainer, self._collectives
        if collectives is None or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        loop = trainer.fit_loop
        last = loop.epoch_loop.batch_progress.is_last_batch or (trainer.should_stop and loop._can_stop_early)
        if last and trainer.val_check_batch == float("inf"):  # the one that every worker comes to, once an epoch
            collectives.apart = False
        self._level()

    def end_epoch(self) -> None:
        """All workers have done their part of an epoch: when one of them is to stop, all are.

        And all know of the leader's checkpoints, as whoever takes over from it must.
        """
        together, trainer = self._together, self._trainer
        if together is None:
            return
        together.apart = False
        done = trainer.should_stop or (trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps)
        brought = together.meet("end of epoch", [bool(done), self._saved()])
        trainer.should_stop = any(stop for stop, _ in brought.values())
        self._heed([saved for _, saved in brought.values()])

    def end_training(self) -> None:
        """The result is what the pushes of all workers have led to."""
        if self._collectives is not None:
            self._collectives.apart = False
            self._level()

    def _level(self) -> None:
        """Take the server's weights, the same in all workers (save where they are apart)."""
        if self._exchange is not None and self._exchange.defined and self._together is not None:
            self._together.meet("before a pull")
            self._exchange.pull()
            self._together.meet("after a pull")

    def log_statistics(self, previous: dict[str, Any], elapsed: float) -> dict[str, Any]:
        """The leader logs what the server counts; returns it, to be `previous` of the next log."""
        if self._client is None or not self.is_global_zero:
            return previous
        statistics = self._client.statistics()
        log_statistics(self._trainer.loggers, statistics, self.parameter_version, elapsed, previous or None)
        self._statistics = statistics
        return statistics

    # Data.

    def process_dataloader(self, dataloader: object) -> object:
        trainer = self._trainer
        if (
            self._collectives is None
            or self.world_size == 1
            or trainer.state.stage != RunningStage.TRAINING
            or not isinstance(dataloader, Sequence)
            or not len(dataloader)
        ):
            return dataloader
        wanted = "1.0 or a number of batches, as the length of an epoch depends on the other workers"
        for name in ("val_check_interval", "limit_train_batches"):
            value = getattr(trainer, name)
            require(isinstance(value, int) or value == 1.0, name, value, wanted)
        self._shared += 1
        client = self._collectives.client
        return SharedSequence(
            dataloader, f"work {self._shared}", client.draw, lambda: trainer.current_epoch, self._left
        )

    def _left(self) -> float:
        """Batches until `max_steps`: a worker that comes to it ends its epoch there, as the others end theirs."""
        trainer = self._trainer
        if trainer.max_steps == -1:
            return float("inf")
        return (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
