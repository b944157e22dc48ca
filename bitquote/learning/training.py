"""`train`: one training run on the stock Lightning Trainer, from configs to the files of a run directory."""

from __future__ import annotations

import json
import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from bitquote.errors import InputError, require_choice, require_integer
from bitquote.learning.callbacks import Progress, ScoreHistory, TernaryMonitor, weight_averaging
from bitquote.learning.config import (
    DistillConfig,
    LearnerConfig,
    NetworkConfig,
    PathwiseConfig,
    PPOConfig,
    TrainerConfig,
    check_server,
)
from bitquote.learning.distill import distill_game, distill_order_book
from bitquote.learning.learner import Learner
from bitquote.learning.module import QuoteLearner
from bitquote.learning.pathwise import PathwiseLearner
from bitquote.learning.pathwise_book import BookPathwiseLearner
from bitquote.learning.ppo import PPOLearner
from bitquote.learning.scoring import make_scorer
from bitquote.market.game import Game
from bitquote.market.order_book import OrderBookMarket
from bitquote.progress import progress
from bitquote.quoting.objective import OBJECTIVES
from bitquote.server.config import ServerConfig
from bitquote.server.monitor import live_view, summary
from bitquote.ternary.network import QuoteNetwork
from bitquote.ternary.policy import Policy

if TYPE_CHECKING:
    from bitquote.server.lightning.strategy import ParameterServerStrategy

CHECKPOINT = Path("checkpoints") / "last.ckpt"
SERVER = "server"
"""Folder of a run directory that holds the snapshots and the log of its parameter server."""


@dataclass(frozen=True)
class Trained:
    """A finished run: the policy of the averaged weights, and what metrics.json holds."""

    policy: Policy
    metrics: dict[str, Any]


def train(
    market: Game | OrderBookMarket,
    network: NetworkConfig,
    learner: LearnerConfig,
    trainer: TrainerConfig | None = None,
    *,
    seed: int,
    directory: str | Path,
    objective: str = "penalty",
    market_config: Mapping[str, Any] | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    server: ServerConfig | None = None,
) -> Trained:
    """Train a quoting network and write policy.safetensors, metrics.json, checkpoints and TensorBoard events.

    The result is a function of the arguments but `trainer`, `directory` and `callbacks`. Ctrl-C raises
    KeyboardInterrupt; `resume=True` then goes on from the last complete epoch and ends with the very same policy as
    an uninterrupted run. With several workers at a `server` neither holds to the bit: the result then depends on
    which of them was faster.

    Args:
        market: the game, or an order-book market given its tuned GLFT by `with_baseline`.
        learner: a DistillConfig, PathwiseConfig or PPOConfig.
        directory: run directory, created if need be.
        objective: "penalty" or "cara".
        market_config: goes into the policy's metadata.
        callbacks: further Lightning callbacks.
        server: the parameter server whose workers share the updates; None, or engine "none", is this process alone.

    Raises:
        InputError: for impossible settings, and for a server that this machine cannot run.
        ServerError: where the server or the last of its workers failed.
    """
    require_choice("objective", objective, OBJECTIVES)
    require_integer("seed", seed, 0)
    trainer = trainer or TrainerConfig()
    server = None if server is None or server.engine == "none" else server
    if server is not None:
        check_server(server)
    directory = _prepared(Path(directory))
    checkpoint = directory / CHECKPOINT if resume and (directory / CHECKPOINT).exists() else None
    metadata = {"market": dict(market_config or {}), "objective": objective}

    with _torch_settings(seed):
        module = _build(market, network, learner, trainer, seed, objective)
        done = 0 if checkpoint is None else _epochs_done(checkpoint, module)
        history = ScoreHistory()
        strategy = None if server is None else _strategy(server, directory)
        with _quiet(), _interruptible(), ExitStack() as stack:
            watching: list[Callback] = [history, *callbacks]
            if trainer.progress and strategy is None:
                watching.append(Progress(stack.enter_context(progress("training")), history))
            elif trainer.progress and strategy is not None:  # workers make the updates, and the server counts them
                updates = (learner.epochs - done) * len(module.train_dataloader())
                stack.enter_context(live_view(strategy.statistics, updates))
            lightning = _lightning_trainer(learner, trainer, directory, watching, strategy)
            lightning.fit(module, ckpt_path=checkpoint, weights_only=True)

    policy = module.network.policy(**metadata)
    policy.save(directory / "policy.safetensors")
    metrics = _metrics(module, network, learner, history, seed, objective)
    metrics["server"] = None if strategy is None else _server_metrics(strategy)
    _write_metrics(directory / "metrics.json", metrics)
    return Trained(policy, metrics)


def build_network(market: Game | OrderBookMarket, config: NetworkConfig) -> QuoteNetwork:
    """A freshly initialised network for `market`; draws from torch's global generator."""
    tick, no_quote = (1.0, market.no_quote) if isinstance(market, Game) else (market.tick, market.venue.no_quote)
    unit = 1.0 / market.game.k / tick
    half_spread, skew = config.action_scale or (unit, unit)
    return QuoteNetwork(
        market.observation_names,
        market.observation_ranges,
        hidden=tuple(config.hidden),
        architecture=config.architecture,
        baseline=config.baseline,
        base_half_spread=unit,
        action_scale=(half_spread, skew),
        no_quote=no_quote,
        input_quantisation=config.input_quantisation,
        weight_scale=config.weight_scale,
        head=config.head,
    )


def _prepared(directory: Path) -> Path:
    """The directory, created and found writable."""
    try:
        (directory / CHECKPOINT.parent).mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{directory}: cannot write the run: {error.strerror}") from None
    return directory


@contextmanager
def _torch_settings(seed: int) -> Iterator[None]:
    """One thread and a seeded global generator inside; both as before outside."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C comes out as KeyboardInterrupt (Lightning turns it into an exit and leaves the signal ignored)."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what Lightning says about things that are meant: no GPU, a directory with checkpoints or moved, ..."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        warnings.filterwarnings("ignore", message="The dirpath has changed from")
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 against torch 2.13
        try:
            yield
        finally:
            log.setLevel(level)


def _build(
    market: Game | OrderBookMarket,
    network: NetworkConfig,
    learner: LearnerConfig,
    trainer: TrainerConfig,
    seed: int,
    objective: str,
) -> QuoteLearner:
    quoter = build_network(market, network)
    return QuoteLearner(
        quoter,
        build_learner(market, quoter, learner, trainer, seed, objective),
        make_scorer(market, objective, trainer.threads),
        learning_rate=learner.learning_rate,
        weight_decay=learner.weight_decay,
        iterations_per_epoch=learner.iterations_per_epoch,
        quantisation_warm_up=learner.quantisation_warm_up,
    )


def build_learner(
    market: Game | OrderBookMarket,
    network: QuoteNetwork,
    config: LearnerConfig,
    trainer: TrainerConfig,
    seed: int,
    objective: str,
) -> Learner:
    """The learner that `config` names, for this kind of market."""
    if isinstance(config, PPOConfig):
        return PPOLearner(market, network, config, trainer.threads, seed)
    if isinstance(config, DistillConfig):
        if isinstance(market, Game):
            return distill_game(market, config, objective, seed)
        return distill_order_book(market, network, config, trainer.threads, seed)
    if isinstance(config, PathwiseConfig):
        if isinstance(market, Game):
            return PathwiseLearner(market, network, config, objective, trainer.threads, seed)
        return BookPathwiseLearner(market, network, config, trainer.threads, seed)
    raise InputError(f"learner is {type(config).__name__}: must be a DistillConfig, PathwiseConfig or PPOConfig")


def _lightning_trainer(
    learner: LearnerConfig,
    trainer: TrainerConfig,
    directory: Path,
    watching: Sequence[Callback],
    strategy: ParameterServerStrategy | None,
) -> Trainer:
    """The stock Trainer: an epoch ends with a validation of the averaged weights, then a checkpoint."""
    workers = 1 if strategy is None else strategy.config.workers
    checkpoints = ModelCheckpoint(
        directory / CHECKPOINT.parent,
        filename=CHECKPOINT.stem,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    average = weight_averaging(learner.averaging, workers)
    return Trainer(
        accelerator="cpu",
        devices=workers,
        strategy=strategy or "auto",
        max_epochs=learner.epochs,
        num_sanity_val_steps=0,
        log_every_n_steps=trainer.log_every_n_steps,
        logger=TensorBoardLogger(directory, name="", version="") if trainer.log_every_n_steps else False,
        callbacks=[average, TernaryMonitor(), checkpoints, *watching],
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=learner.gradient_clip,
    )


def _strategy(server: ServerConfig, directory: Path) -> ParameterServerStrategy:
    from bitquote.server.lightning.strategy import ParameterServerStrategy  # what a single process need not wait for

    return ParameterServerStrategy(server, workers=server.workers, directory=directory / SERVER)


def _epochs_done(path: Path, module: QuoteLearner) -> int:
    """Epochs that a checkpoint stands after; `InputError` unless it is of a network and a learner like `module`'s."""
    try:
        checkpoint = torch.load(path, weights_only=True)
        found = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        done = int(checkpoint["epoch"]) + 1
    except Exception:  # whatever the bytes of a damaged file make of torch's reader
        raise InputError(f"{path} is damaged: delete it, and the training begins anew") from None
    if found != {name: value.shape for name, value in module.state_dict().items()}:
        raise InputError(f"{path} is of another network or learner: delete it, and the training begins anew")
    return done


def _metrics(
    module: QuoteLearner,
    network: NetworkConfig,
    learner: LearnerConfig,
    history: ScoreHistory,
    seed: int,
    objective: str,
) -> dict[str, Any]:
    """What metrics.json holds; `reached` says after how many steps and seconds each reference score was passed."""
    rows = history.rows
    steps = rows[-1]["steps"]
    return {
        "learner": asdict(learner),
        "policy": asdict(network),
        "seed": seed,
        "objective": objective,
        "score": rows[-1]["score"],
        "score_name": module.scorer.metric,
        "references": dict(module.scorer.references),
        "reached": {
            name: history.reached(level, lower_is_better=module.scorer.lower_is_better)
            for name, level in module.scorer.milestones.items()
        },
        "updates": module.learner.updates,
        "steps": steps,
        "seconds": history.seconds,
        "steps_per_second": steps / history.seconds,
        "history": rows,
    }


def _server_metrics(strategy: ParameterServerStrategy) -> dict[str, Any]:
    """What metrics.json says of the server; its counts begin at the last resume."""
    config = asdict(strategy.config)
    chosen = {key: config[key] for key in ("engine", "workers", "shards", "consistency", "tau")}
    return chosen | summary(strategy.statistics())


def _write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write at once, so that a file that exists is whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    partial.replace(path)
