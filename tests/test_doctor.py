"""`bitquote doctor`: what it says of a sound machine, and of each thing that would break a run."""

from __future__ import annotations

import sys

import pytest

from bitquote.errors import InputError
from train import doctor as module
from train.command import main


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BITQUOTE_KERNELS", raising=False)


def report(capsys, status: int) -> dict[str, str]:
    """The lines of the report by subject, the last one of each, after a run that ends with `status`."""
    assert main(["doctor"]) == status
    return {line[:10].strip(): line[11:] for line in capsys.readouterr().out.splitlines()}


def test_all_is_well_here(capsys, tmp_path):
    assert main(["kernels"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert [line[11:] for line in said.splitlines() if line.startswith("kernels")] == told
    assert said.splitlines()[-1].endswith("all is well") and str(tmp_path) in said
    assert "->" not in said
    for subject in ("bitquote", "python", "numpy", "numba", "torch", "lightning", "ray", "cores", "cache", "gpu"):
        assert f"\n{subject} " in f"\n{said}"


def test_what_is_missing_is_a_fault_unless_it_is_ray(capsys, monkeypatch):
    monkeypatch.setattr(module, "_version", lambda package: None if package in ("torch", "ray") else "1000.0")
    said = report(capsys, 1)
    assert said["torch"].startswith("not installed, must be >=") and "constraints.txt" in said["torch"]
    assert "bitquote[ray]" in said["ray"] and "->" not in said["ray"]
    assert said["verdict"] == "a run would break: see torch"


def test_what_is_too_old_is_a_fault(capsys, monkeypatch):
    found = module._version
    monkeypatch.setattr(module, "_version", lambda package: "0.1" if package in ("numba", "scipy") else found(package))
    said = report(capsys, 1)
    assert said["numba"].startswith("0.1, must be >=") and said["scipy"].startswith("0.1, must be >=")
    assert said["verdict"] == "a run would break: see numba, scipy"


def test_a_checkout_that_is_not_installed_is_no_fault(capsys, monkeypatch):
    def absent(package):
        raise module.PackageNotFoundError(package)

    monkeypatch.setattr(module, "requires", absent)
    said = report(capsys, 0)
    assert said["numpy"] and said["verdict"] == "all is well"


def test_kernels_that_cannot_be_taken_are_a_fault(capsys, monkeypatch):
    monkeypatch.setenv("BITQUOTE_KERNELS", "fast")
    said = report(capsys, 1)
    assert said["kernels"].endswith("-> unset BITQUOTE_KERNELS")
    assert said["verdict"].endswith("see kernels")


def test_folders_that_cannot_be_written_are_faults(capsys, monkeypatch):
    def refuse(folder):
        raise InputError(f"cannot write to the directory {folder}: Read-only file system")

    monkeypatch.setattr(module, "make_directory", refuse)
    said = report(capsys, 1)
    assert "NUMBA_CACHE_DIR" in said["cache"] and "MB free" in said["folder"]
    assert said["verdict"].endswith("see cache, folder")


def test_a_module_that_does_not_load_is_a_fault(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # which makes the import fail
    said = report(capsys, 1)
    assert said["gpu"].startswith("torch cannot be loaded") and "->" in said["gpu"]


def test_it_takes_no_keys(capsys):
    assert main(["doctor", "market=game"]) == 2
    assert "doctor takes no keys" in capsys.readouterr().err
