"""`policy.safetensors`: tensors, and a header of JSON texts with a checksum over all of it; no pickle.

Ternary weights are packed, five to a byte: see `packing`. Version 1 had them one to a byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bitquote.errors import InputError, require
from bitquote.ternary.description import Layout, PolicyDescription, Tensors, check_layout, check_tensors
from bitquote.ternary.packing import pack, packed_size, unpack

FORMAT = "bitquote policy"
VERSION = 2
DTYPES = {"U8": np.dtype(np.uint8), "F32": np.dtype(np.float32)}
DESCRIPTION = tuple(field.name for field in fields(PolicyDescription))
RESERVED = ("format", "version", *DESCRIPTION, "sha256")


def write(path: Path, description: PolicyDescription, metadata: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a policy file; `metadata` may hold anything that JSON can, under names of its own."""
    for name in metadata:
        require(name not in RESERVED, "metadata", name, "a name that the file does not use itself")
    entries = {"format": FORMAT, "version": VERSION, **asdict(description), **metadata}
    try:
        header = {name: json.dumps(value, allow_nan=False) for name, value in entries.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata cannot be written as JSON: {error}") from None
    stored = {name: pack(array) if array.dtype == np.int8 else array for name, array in tensors.items()}
    header["sha256"] = json.dumps(digest(header, stored))
    try:
        path.write_bytes(_sorted(save(stored, header)))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def read(path: Path) -> tuple[PolicyDescription, dict[str, Any], dict[str, np.ndarray]]:
    """Read and check a policy file; anything but a sound one is an `InputError` that names the file."""
    try:
        return _read(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason}): must be the safetensors file of a policy") from None


def _read(path: Path) -> tuple[PolicyDescription, dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise InputError(f"{'is a directory' if path.is_dir() else 'no such file'}: must be a policy file")
    with safe_open(str(path), framework="np") as file:
        header = file.metadata() or {}
        entries = {name: _decode(name, text) for name, text in header.items()}
        require(entries.get("format") == FORMAT, "format", entries.get("format"), repr(FORMAT))
        require(entries.get("version") == VERSION, "version", entries.get("version"), f"{VERSION}, the one read here")
        for name in RESERVED:
            require(name in entries, "metadata", sorted(entries), f"with {name}")
        description = PolicyDescription(**{name: entries[name] for name in DESCRIPTION})
        # The layout is checked before any tensor is read: an absurd size costs nothing.
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found = {name: (_dtype(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
        check_layout(_stored(description), found)
        stored = {name: file.get_tensor(name) for name in found}
    tensors = {name: _unpacked(name, array, description) for name, array in stored.items()}
    check_tensors(description, tensors)
    expected = digest({name: text for name, text in header.items() if name != "sha256"}, stored)
    require(entries["sha256"] == expected, "sha256", entries["sha256"], f"{expected}: the file was altered")
    return description, {name: value for name, value in entries.items() if name not in RESERVED}, tensors


def _stored(description: PolicyDescription) -> Layout:
    """The layout of the file: trits are packed bytes."""
    layout = description.layout()
    for name, (dtype, shape) in layout.items():
        if dtype == np.int8:
            layout[name] = np.dtype(np.uint8), (packed_size(shape),)
    return layout


def _unpacked(name: str, array: np.ndarray, description: PolicyDescription) -> np.ndarray:
    if array.dtype != np.uint8:
        return array
    try:
        return unpack(array, description.layout()[name][1])
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _sorted(data: bytes) -> bytes:
    """The same safetensors bytes with the header in sorted order: equal policies make equal files."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _decode(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InputError(f"{name} in the header is {text[:60]!r}: must be JSON") from None


def _refuse_constant(text: str) -> NoReturn:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise ValueError(text)


def _dtype(name: str) -> Any:
    return DTYPES.get(name, name)


def digest(header: Mapping[str, str], tensors: Tensors) -> str:
    """SHA-256 over the header's entries and the tensors' names, dtypes, shapes and bytes, in sorted order."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
