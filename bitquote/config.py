"""The settings of a run as frozen dataclasses, filled strictly from nested dictionaries.

Names and types are checked here, values in the dataclasses themselves, and nothing in the program that composes the
dictionaries: so files, command line and Python calls meet the same errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bitquote.errors import InputError, did_you_mean, require, require_choice, require_integer, require_number
from bitquote.learning.config import LEARNERS, LearnerConfig, NetworkConfig, TrainerConfig
from bitquote.quoting.objective import OBJECTIVES
from bitquote.server.config import ServerConfig, core_count

LARGEST_SEED = 2**62
NO_SERVER = ServerConfig(engine="none")

T = TypeVar("T")


@dataclass(frozen=True)
class TuningConfig:
    """The published grid on which `glft_tuned` is chosen."""

    paths: int
    """Paths per point of the grid, common to all points."""
    seed: int
    shifts: tuple[float, ...]
    """Shifts of the half-spread, in units of 1/k."""
    scales: tuple[float, ...]
    """Factors of the skew."""

    def __post_init__(self) -> None:
        require_integer("benchmark.tuning.paths", self.paths, 2, 10**7)
        require_integer("benchmark.tuning.seed", self.seed, 0, LARGEST_SEED)
        for name in ("shifts", "scales"):
            axis = getattr(self, name)
            require(3 <= len(axis) <= 100, f"benchmark.tuning.{name}", axis, "a list of 3 to 100 numbers")
            for value in axis:
                require_number(f"benchmark.tuning.{name}", value, -1e3, 1e3)


@dataclass(frozen=True)
class BenchmarkConfig:
    """How quoters and policies are judged: on `paths` common paths of `seed`, a seed that training never uses."""

    paths: int
    seed: int
    tuning: TuningConfig

    def __post_init__(self) -> None:
        require_integer("benchmark.paths", self.paths, 2, 10**8)
        require_integer("benchmark.seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True)
class Settings:
    """Everything that a run is made from. `market` is what `bitquote.market.build` takes."""

    market: dict[str, Any]
    policy: NetworkConfig
    learner: LearnerConfig
    trainer: TrainerConfig
    benchmark: BenchmarkConfig
    objective: str
    seed: int
    threads: int | None
    """Threads of the compiled simulation; None means one per core. The results do not depend on it."""
    server: ServerConfig = NO_SERVER
    """Runs recorded before there was a server have none."""

    def __post_init__(self) -> None:
        require_choice("objective", self.objective, OBJECTIVES)
        require_integer("seed", self.seed, 0, LARGEST_SEED)
        if self.threads is not None:
            require_integer("threads", self.threads, 1, 1024)


def settings(node: Mapping[str, Any], sources: Mapping[str, str]) -> Settings:
    """The settings in a composed dictionary; `sources` names the file behind each group for the error messages."""
    _check_names(Settings, node, "the configuration", sources["config"])
    learner, benchmark = node["learner"], node["benchmark"]
    _check_mapping(learner, "learner", sources["learner"])
    kind = require_choice("learner.kind", learner.get("kind"), tuple(LEARNERS))
    _check_names(BenchmarkConfig, benchmark, "benchmark", sources["benchmark"])
    tuning = construct(TuningConfig, benchmark["tuning"], "benchmark.tuning", sources["benchmark"])
    groups = {
        "policy": construct(NetworkConfig, node["policy"], "policy", sources["policy"]),
        "learner": construct(LEARNERS[kind], learner, "learner", sources["learner"]),
        "trainer": construct(TrainerConfig, node["trainer"], "trainer", sources["trainer"]),
        "benchmark": construct(BenchmarkConfig, {**benchmark, "tuning": tuning}, "benchmark", sources["benchmark"]),
    }
    if "server" in node:
        groups["server"] = construct(ServerConfig, node["server"], "server", sources["server"])
    return construct(Settings, {**node, **groups}, "", sources["config"])


def construct(kind: type[T], node: Any, where: str, source: str) -> T:
    """An instance of the dataclass `kind` from a mapping with its fields, of their types; `where` is their prefix."""
    _check_names(kind, node, where, source)
    hints = get_type_hints(kind)
    for key, value in node.items():
        require(_conforms(value, hints[key]), f"{where}.{key}" if where else key, value, _described(hints[key]))
    return kind(**node)


def _check_names(kind: type, node: Any, where: str, source: str) -> None:
    """Raise `InputError` unless `node` is a mapping with the fields of the dataclass `kind`, none missing."""
    _check_mapping(node, where, source)
    known = {field.name: field for field in fields(kind)}
    for key in node:
        if key not in known:
            raise InputError(f"{source}: unknown key {str(key)!r}{did_you_mean(str(key), known)}")
    for name, field in known.items():
        if name not in node and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{source}: the key {name!r} is missing")


def _check_mapping(node: Any, where: str, source: str) -> None:
    if not isinstance(node, Mapping):
        raise InputError(f"{source}: {where} is {str(node)[:80]!r}: must be a mapping of keys to values")


def thread_count(threads: int | None, workers: int = 1) -> int:
    """`threads`, or what each of `workers` gets of the cores that this process may use: at least one."""
    return max(1, core_count() // workers) if threads is None else threads


def _conforms(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_conforms(value, argument) for argument in arguments)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_conforms(item, arguments[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_described(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"a list, each item {_described(arguments[0])}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, "a mapping")
