"""The artefact: one file of integers that is the model. Its SHA-256 is the model's name.

The container is safetensors (a little-endian u64 with the header's length, a JSON header, the tensors' bytes), written by
ourselves in one canonical way: tensors by falling size of their elements, then by name, so that all lie aligned; the header is
canonical JSON, padded with spaces to a multiple of 8.

| tensor           | type, shape             | meaning                                                              |
|------------------|-------------------------|----------------------------------------------------------------------|
| `program`        | i64 (steps, 15)         | what is computed, one step a row; columns are `Step`'s fields         |
| `weights.N`      | i32 (k, k, cin, cout), depthwise (k, k, c) | integer weights w                                  |
| `exponents.N`    | i32 (cout)              | the real weight is w · 2^-exponent                                    |
| `bias.N`         | f64 (cout)              | real bias; rounded to the accumulator's grid for each image           |
| `silu`, `sigmoid`| i64 (131073, 2)         | `tables`                                                              |
| `labels`         | u8                      | UTF-8, one text a line, in order of index                             |
| `preprocessing`  | i64 (2)                 | side S of the input, coefficient bits                                 |
| `name`           | u8                      | UTF-8: the network's name                                             |
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbnet import canonical
from perturbnet.errors import DigestMismatch, ModelError

FORMAT = "perturb-model-1"
_TYPES = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "F64": np.dtype("<f8"), "U8": np.dtype("u1")}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_MAX_HEADER = 16 * 1024 * 1024


class Op(IntEnum):
    """What a step does."""

    CONV = 1  # convolution, bias, perhaps SiLU, perhaps plus the block's input
    GATE = 2  # squeeze-excite: pool, two matrices, sigmoid, product; its layers are `layer` and `layer + 1`
    POOL = 3  # mean over all positions


class Act(IntEnum):
    """What follows a sum."""

    NONE = 0
    SILU = 1


@dataclass(frozen=True)
class Step:
    """One row of the program, all integers. Sizes are pixels and channels; `layer` numbers weights, exponents, bias."""

    op: int
    layer: int
    cin: int
    cout: int
    kernel: int
    stride: int
    pad_top: int
    pad_left: int
    height: int  # of the input
    width: int
    out_height: int
    out_width: int
    depthwise: int
    act: int
    shortcut: int  # 1: keep the input as the block's; 2: add the kept one; 3: both

    @property
    def keeps(self) -> bool:
        """Whether the input begins a block with a shortcut."""
        return bool(self.shortcut & 1)

    @property
    def adds(self) -> bool:
        """Whether the output ends one."""
        return bool(self.shortcut & 2)


STEP_FIELDS = tuple(entry.name for entry in fields(Step))


@dataclass(frozen=True)
class Layer:
    """One linear map: int32 weights (k, k, cin, cout) or (k, k, c), exponents (cout), float64 bias (cout)."""

    weights: NDArray[np.int32]
    exponents: NDArray[np.int32]
    bias: NDArray[np.float64]


@dataclass(frozen=True)
class Artefact:
    """A compiled model, read or ready to be written."""

    name: str
    size: int
    coefficient_bits: int
    labels: tuple[str, ...]
    steps: tuple[Step, ...]
    layers: tuple[Layer, ...]
    silu: NDArray[np.int64]
    sigmoid: NDArray[np.int64]

    def encode(self) -> bytes:
        """The file's bytes; the same for the same model, always."""
        return _encode(self._tensors())

    def _tensors(self) -> dict[str, NDArray[Any]]:
        rows = [[getattr(step, name) for name in STEP_FIELDS] for step in self.steps]
        found: dict[str, NDArray[Any]] = {
            "labels": np.frombuffer("\n".join(self.labels).encode(), dtype=np.uint8),
            "name": np.frombuffer(self.name.encode(), dtype=np.uint8),
            "preprocessing": np.array([self.size, self.coefficient_bits], dtype="<i8"),
            "program": np.array(rows, dtype="<i8"),
            "sigmoid": self.sigmoid,
            "silu": self.silu,
        }
        for number, layer in enumerate(self.layers):
            found[f"weights.{number:04d}"] = layer.weights
            found[f"exponents.{number:04d}"] = layer.exponents
            found[f"bias.{number:04d}"] = layer.bias
        return found


def read_artefact(path: Path, *, sha256: str | None = None) -> tuple[Artefact, str]:
    """Read a model and its SHA-256; weights stay memory-mapped.

    Raises:
        ModelError: not such a file.
        DigestMismatch: not the one that was asked for.

    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise DigestMismatch(str(path), sha256, digest)
    return _assemble(_decode(data, path), path), digest


def _encode(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT}}
    parts, offset = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        array = np.ascontiguousarray(tensors[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        body = array.tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(body)],
        }
        parts.append(body)
        offset += len(body)
    text = canonical.encode(header)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def _decode(data: NDArray[np.uint8], path: Path) -> dict[str, NDArray[Any]]:
    if len(data) < 8:
        raise ModelError(f"{path} is too short to be a model: {len(data)} bytes")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    if length > min(_MAX_HEADER, len(data) - 8):
        raise ModelError(
            f"{path}: a header of {length} bytes; at most {_MAX_HEADER} and the file are allowed"
        )
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        if header.pop("__metadata__") != {"format": FORMAT}:
            raise ModelError(f"{path} is not of format {FORMAT}")
        body = data[8 + length :]
        return {name: _tensor(body, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a readable model: {error!r}") from None


def _tensor(body: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    dtype = _TYPES[entry["dtype"]]
    shape = tuple(int(side) for side in entry["shape"])
    if not 0 <= start <= end <= len(body) or end - start != dtype.itemsize * int(
        np.prod(shape, dtype=object)
    ):
        raise ValueError(f"offsets {start} to {end} do not fit {dtype} {shape}")
    if start % dtype.itemsize:
        raise ValueError(f"{dtype} at offset {start} is not aligned")
    return body[start:end].view(dtype).reshape(shape)


def _assemble(tensors: dict[str, NDArray[Any]], path: Path) -> Artefact:
    try:
        count = sum(name.startswith("weights.") for name in tensors)
        size, bits = (int(value) for value in tensors["preprocessing"])
        return Artefact(
            name=tensors["name"].tobytes().decode(),
            size=size,
            coefficient_bits=bits,
            labels=tuple(tensors["labels"].tobytes().decode().split("\n")),
            steps=tuple(Step(*map(int, row)) for row in tensors["program"]),
            layers=tuple(
                Layer(tensors[f"weights.{n:04d}"], tensors[f"exponents.{n:04d}"], tensors[f"bias.{n:04d}"])
                for n in range(count)
            ),
            silu=tensors["silu"],
            sigmoid=tensors["sigmoid"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: a tensor is missing or malformed: {error!r}") from None
