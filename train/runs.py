"""Finished runs by the words that name them, and their policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bitquote import run
from bitquote.config import Settings
from bitquote.errors import InputError
from bitquote.ternary import Policy, load_policy

from .composition import compose_recorded
from .sweeping import SWEEP, finished_runs


def directories_of(text: str) -> list[Path]:
    """The run directories that run= names: one, several with commas between, or those of a sweep."""
    directories = []
    for name in text.split(","):
        directories += finished_runs(Path(name)) if (Path(name) / SWEEP).is_file() else [run.existing_directory(name)]
    return directories


def policies_of(directories: Sequence[Path], settings: Settings) -> tuple[dict[str, Policy], list[int]]:
    """The runs' policies under the names of their rows, and the training seeds."""
    policies, seeds = {}, []
    for directory in directories:
        _, own, _ = compose_recorded(directory)
        if (own.market, own.objective) != (settings.market, settings.objective):
            raise InputError(f"run {directory} has another market or objective than run {directories[0]}")
        if own.seed in seeds:
            raise InputError(f"run {directory} has the same training seed {own.seed} as another of the runs")
        policy = load_policy(directory / run.POLICY)
        if policy.metadata.get("market") != own.market:
            raise InputError(f"{directory / run.POLICY} was trained in another market than its run's {run.CONFIG} says")
        seeds.append(own.seed)
        policies["policy" if len(directories) == 1 else f"policy:{own.seed}"] = policy
    return policies, seeds
