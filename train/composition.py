"""Composing the configuration with Hydra: files in conf/, a user's own market, a run's own record, and overrides.

Hydra's errors span several lines and speak of structs; here each becomes one line that names the word to change.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bitquote.config import Settings, settings
from bitquote.errors import InputError, did_you_mean
from bitquote.market import Game, OrderBookMarket, build
from bitquote.run import CONFIG
from bitquote.ternary import load_policy
from bitquote.ternary.paths import choose

CONF = Path(__file__).parent.parent / "conf"
"""conf/ is a sibling of this folder in a checkout and as bitquote.conf in an installation."""
GROUPS = ("market", "policy", "learner", "trainer", "server", "benchmark")
LARGEST_FILE = 2**20
DEEPEST = 20

Composed = tuple[dict[str, Any], Settings, Game | OrderBookMarket]
"""The composed configuration as plain values, the settings in it, and the market that it describes."""

_OWN_MARKET = "own_file"
"""The name under which Hydra knows the market that a user's file describes."""
_RECORD = "recorded_run"


def compose(overrides: Sequence[str]) -> Composed:
    """What conf/ and `overrides` make."""
    sources = {"config": "conf/config.yaml"} | {group: f"conf/{group}" for group in GROUPS}
    words = []
    for word in overrides:
        group, _, value = word.partition("=")
        if group in GROUPS:
            sources[group] = _choose(group, value)
            word = f"market={_OWN_MARKET}" if sources[group] == value else word
        words.append(word)
    return build_composed(_composed("config", words), sources)


def compose_recorded(directory: Path, overrides: Sequence[str] = ()) -> Composed:
    """What a run has recorded in its config.yaml, changed by `overrides`."""
    path = directory / CONFIG
    ConfigStore.instance().store(name=_RECORD, node=read_yaml(path))
    return build_composed(_composed(_RECORD, overrides), dict.fromkeys(("config", *GROUPS), str(path)))


def build_composed(node: dict[str, Any], sources: Mapping[str, str]) -> Composed:
    """Check a composed dictionary and build its market; `sources` names the files for the error messages."""
    checked = settings(node, sources)
    choose()  # of the kernels: a word in the environment that cannot be followed is better said before the training
    try:
        return node, checked, build(checked.market, load_policy)
    except InputError as error:
        raise InputError(f"{sources['market']}: {error}") from None


def choices(group: str) -> list[str]:
    """The names that `group=` knows."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a file that may be anybody's: plain values only, no aliases, no interpolation, 1 MiB at most."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1).decode()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a YAML file: it is not text") from None
    if len(text) > LARGEST_FILE:
        raise InputError(f"{path} is no configuration: it is larger than 1 MiB")
    if "${" in text:
        raise InputError(f"{path}: interpolation (${{...}}) is not allowed here")
    try:
        _check_events(path, text)
        node = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path} is not valid YAML: {line}{one_line(error.problem or error)}") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(node, dict) or not node:
        raise InputError(f"{path} must hold a mapping of keys to values")
    return {str(key): value for key, value in node.items()}


def _check_events(path: Path, text: str) -> None:
    """Refuse what makes a small file grow without bound (an alias inside an alias) or take for ever (deep nesting)."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise InputError(f"{path}: aliases (*name) and nesting deeper than {DEEPEST} are not allowed here")


def one_line(error: object) -> str:
    """A message without its line breaks."""
    return " ".join(str(error).split())


def _choose(group: str, value: str) -> str:
    """The source that `group=value` names: a file of conf/, or for a market the user's own file, now known to Hydra."""
    known = choices(group)
    if value in known:
        return f"conf/{group}/{value}.yaml"
    if "," in value:
        raise InputError(f"{group}={value} lists several values: bitquote sweep runs them one after the other")
    path = Path(value)
    if group == "market" and (path.suffix in (".yaml", ".yml") or path.is_file()):
        ConfigStore.instance().store(group="market", name=_OWN_MARKET, node=read_yaml(path))
        return value
    also = ", or a path to your own .yaml" if group == "market" else ""
    raise InputError(f"{group}={value} is unknown: must be one of {', '.join(known)}{also}{did_you_mean(value, known)}")


def _composed(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Compose the primary configuration `name` with Hydra and resolve it."""
    _check_syntax(words)
    try:
        with _own_hydra():
            base = hydra_compose(name, [word for word in words if word.partition("=")[0] in GROUPS])
            _check_keys(words, base)
            node = OmegaConf.to_container(hydra_compose(name, list(words)), resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error)) from None
    return _with_text_keys(node)


def _with_text_keys(node: Any) -> Any:
    """Every key as text, as a policy's metadata have it: a calibrated market has numbers, the lags of its recording."""
    if isinstance(node, Mapping):
        return {str(key): _with_text_keys(value) for key, value in node.items()}
    return [_with_text_keys(item) for item in node] if isinstance(node, list) else node


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra reading conf/, whatever Hydra application of the user's this may run inside."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _check_syntax(words: Sequence[str]) -> None:
    parser = OverridesParser.create()
    for word in words:
        key, _, value = word.partition("=")
        try:
            override = parser.parse_override(word)
        except HydraException:
            raise InputError(f"{key}: cannot read the value {value!r}") from None
        if override.is_sweep_override():
            raise InputError(f"{word} lists several values: bitquote sweep runs them one after the other")


def _check_keys(words: Sequence[str], base: DictConfig) -> None:
    """Every overridden key must stand in the files already."""
    known = _dotted_keys(OmegaConf.to_container(base), "")
    for word in words:
        key = word.partition("=")[0]
        if key not in known:
            if key.startswith("server.") and base.get("server", {}).get("engine") == "none":
                raise InputError(f"{key}: there is no server; choose one with server=shm, server=ray or server=inproc")
            near = did_you_mean(key, [*known, "run", "output"]) or did_you_mean(key.rpartition(".")[2], known)
            raise InputError(f"unknown key {key!r}{near}")


def _dotted_keys(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, Mapping):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_dotted_keys(value, f"{prefix}{key}.")]
    return keys
