"""`bitquote doctor`: what this machine has for a run, and what would break one."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import bitquote
from bitquote.errors import InputError
from bitquote.run import ROOM, make_directory

from .words import refuse

SHOWN = ("numpy", "numba", "torch", "lightning")
"""Packages whose version is told even where nothing is wrong with it."""
INSTALL = "install what constraints.txt names: pip install -c constraints.txt -e ."
CACHE = "set NUMBA_CACHE_DIR to a folder that can be written"


class Finding(NamedTuple):
    """One line of the report; a remedy makes it a fault, which would break a run."""

    subject: str
    text: str
    remedy: str = ""


def doctor(words: Sequence[str]) -> list[Finding]:
    """Print what every check finds and a verdict; returns the faults, none where all is well."""
    refuse(list(words), "doctor takes no keys")
    faults = []
    for check in CHECKS:
        for finding in check():
            print(f"{finding.subject:<10} {finding.text}{' -> ' * bool(finding.remedy)}{finding.remedy}", flush=True)
            faults += [finding] if finding.remedy else []
    subjects = ", ".join(dict.fromkeys(fault.subject for fault in faults))
    print(f"{'verdict':<10} {f'a run would break: see {subjects}' if faults else 'all is well'}")
    return faults


def versions() -> Iterator[Finding]:
    """Python and the packages that every run needs; Ray, which only server=ray does."""
    yield Finding("bitquote", bitquote.__version__)
    yield Finding("python", f"{platform.python_version()} ({platform.system()}, {platform.machine()})")
    for name, allowed in _needed().items():
        found = _version(name)
        if found is None or not allowed.contains(found, prereleases=True):
            yield Finding(name, f"{found or 'not installed'}, must be {allowed}", INSTALL)
        elif name in SHOWN:
            yield Finding(name, found)
    yield Finding("ray", _version("ray") or "not installed; only server=ray needs it: pip install 'bitquote[ray]'")


def processor() -> Iterator[Finding]:
    """Cores, threads, the path of the ternary kernels, and where numba keeps what it has compiled."""
    try:
        from bitquote.config import thread_count
        from bitquote.ternary import kernels, paths

        from .kernels import lines
    except ImportError as error:
        yield Finding("kernels", str(error), INSTALL)
        return
    except RuntimeError as error:  # numba's, where it finds no folder for what it compiles
        yield Finding("cache", " ".join(str(error).split()), CACHE)
        return
    yield Finding("cores", f"{os.cpu_count()} here, {thread_count(None)} threads by default (threads=...)")
    try:
        yield from (Finding("kernels", line) for line in lines(paths.choose()))
    except InputError as error:
        yield Finding("kernels", str(error), f"unset {paths.VARIABLE}")
    compiled: Any = kernels.padded
    yield _folder("cache", Path(compiled._cache.cache_path), CACHE)


def current_folder() -> Iterator[Finding]:
    """Where runs are written."""
    yield _folder("folder", Path.cwd(), f"go to a folder that can be written, with {ROOM / 2**20:.0f} MB free")


def graphics() -> Iterator[Finding]:
    """Whether torch loads, and whether it sees a GPU, which no run needs."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("gpu", f"torch cannot be loaded: {' '.join(str(error).split())}", INSTALL)
        return
    found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that torch can use"
    yield Finding("gpu", f"{found}; training and simulation run on the processor")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (versions, processor, current_folder, graphics)


def _needed() -> dict[str, SpecifierSet]:
    """The packages that bitquote cannot do without, with the versions that it takes."""
    try:
        texts = requires("bitquote") or ()
    except PackageNotFoundError:  # a checkout that was not installed: any version has to do
        texts = SHOWN
    asked = [Requirement(text) for text in texts]
    return {one.name: one.specifier for one in asked if one.marker is None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _folder(subject: str, folder: Path, remedy: str) -> Finding:
    try:
        make_directory(folder)
    except InputError as error:
        return Finding(subject, str(error), remedy)
    return Finding(subject, f"{folder} can be written, {shutil.disk_usage(folder).free / 2**30:.1f} GB free")
