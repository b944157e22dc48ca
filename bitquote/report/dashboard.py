"""What TensorBoard shows of every evaluation: weights and activations as histograms, quotes as a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.tensorboard import SummaryWriter

from bitquote.evaluation.distance import price_unit
from bitquote.evaluation.row import BASELINES
from bitquote.market import Game, OrderBookMarket
from bitquote.report import tensorboard
from bitquote.report.figures import QuotePainter
from bitquote.report.pictures import units_of
from bitquote.report.surface import LARGEST_INVENTORY, Surface, rollout_surface, table_surface

PATHS, SEED = 16, 4_000_037
"""Of the rollout over whose observations an order-book policy's quotes are drawn."""
TIMES = 40
START_INVENTORY = 5
BINS = 50
ROWS = 128
"""Observations whose activations are counted."""


class Cells(NamedTuple):
    """Where a policy is looked at, the same at every evaluation.

    Attributes:
        observations: float32 (rows, features).
        surface: makes a Surface of the quotes there, (rows, 2).
        reference: closed-form quotes, after which colours are chosen.
    """

    observations: np.ndarray
    surface: Callable[[np.ndarray], Surface]
    reference: Surface


class Dashboard(Callback):
    """Writes to the trainer's TensorBoard logger, if it has one, at every evaluation, of the averaged weights.

    The module must have a `network`, a `QuoteNetwork`, and the `last_update` that its figures stand at.
    """

    def __init__(self, market: Game | OrderBookMarket) -> None:
        self._market = market
        self._cells: Cells | None = None
        self._painter: QuotePainter | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.logger is None or not trainer.is_global_zero:
            return
        writer: SummaryWriter = trainer.logger.experiment
        network: Any = pl_module.network
        step: Any = pl_module.last_update
        if self._cells is None:
            self._cells = watched_cells(self._market, network.policy())
            served = hasattr(trainer.strategy, "statistics")  # a parameter server's
            tensorboard.write_layout(writer, self._market, [*BASELINES, "policy"], served=served)
        observations = torch.from_numpy(self._cells.observations)
        few = observations[:: max(1, len(observations) // ROWS)]
        write_weights(writer, network, step)
        for name, values in zip(_places(network), network.activations(few), strict=True):
            writer.add_histogram(f"activations/into_{name}", values.numpy(), step, bins=BINS)  # pyright: ignore[reportArgumentType] (a number of bins is possible)
        with torch.no_grad():
            surface = self._cells.surface(network(observations).double().numpy())
        writer.add_image(tensorboard.picture("quotes_in_training"), self._paint(surface), step, dataformats="HWC")

    def _paint(self, surface: Surface) -> np.ndarray:
        if self._painter is None:
            assert self._cells is not None
            self._painter = QuotePainter(surface, self._cells.reference, units=units_of(self._market))
        return self._painter.paint(surface)


def watched_cells(market: Game | OrderBookMarket, policy: Any) -> Cells:
    """In the game a grid over (time, inventory); in the order book what `policy` meets."""
    no_quote = policy.no_quote
    if isinstance(market, OrderBookMarket):
        rollout = market.rollout(policy, PATHS, SEED, start_inventory=START_INVENTORY, threads=1)
        observations = rollout.observation.reshape(-1, rollout.observation.shape[-1])

        def averaged(quotes: np.ndarray) -> Surface:
            mean = quotes.reshape(rollout.mean.shape)
            return rollout_surface(
                rollout._replace(mean=mean), market.game, price_unit=price_unit(market), no_quote=no_quote, times=TIMES
            )

        return Cells(observations, averaged, table_surface(market.baseline, market.game))
    parameters = market.game
    bound = min(LARGEST_INVENTORY, parameters.max_inventory)
    rows = np.arange(0, parameters.steps, max(1, parameters.steps // TIMES))
    cells = market.observations()[rows, parameters.max_inventory - bound : parameters.max_inventory + bound + 1]
    time = np.append(rows * parameters.dt, parameters.horizon)

    def direct(quotes: np.ndarray) -> Surface:
        half_spread, skew = np.moveaxis(quotes.reshape(*cells.shape[:2], 2), -1, 0)
        quiet = half_spread >= no_quote
        half_spread, skew = (np.where(quiet, np.nan, values) for values in (half_spread, skew))
        return Surface(time, np.arange(-bound, bound + 1.0), half_spread, skew)

    places = [market.observation_names.index(name) for name in ("glft_half_spread", "glft_skew")]
    return Cells(cells.reshape(-1, cells.shape[-1]), direct, direct(cells[..., places]))


def write_weights(writer: SummaryWriter, network: Any, step: int) -> None:
    """Histograms of the latent weights of each layer, and of the trits of each ternary one."""
    for name, layer in zip(_places(network), [*network.hidden, network.head], strict=True):
        writer.add_histogram(f"weights/{name}_latent", layer.weight.detach().numpy(), step, bins=BINS)  # pyright: ignore[reportArgumentType]
    for index, trits in enumerate(network.trits()):
        counts = [int((trits == value).sum()) for value in (-1, 0, 1)]
        writer.add_histogram_raw(
            f"weights/hidden_{index}_trits",
            min=-1.0,
            max=1.0,
            num=sum(counts),
            sum=float(counts[2] - counts[0]),
            sum_squares=float(counts[2] + counts[0]),
            bucket_limits=[-0.9, -0.1, 0.1, 0.9, 1.1],
            bucket_counts=[counts[0], 0, counts[1], 0, counts[2]],
            global_step=step,
        )


def _places(network: Any) -> list[str]:
    return [*(f"hidden_{index}" for index in range(len(network.hidden))), "head"]
