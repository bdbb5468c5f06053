"""The artefact: one file of integers that is the model. Its SHA-256 is the model's name.

The container is safetensors (a little-endian u64 with the header's length, a JSON header, the tensors'
bytes), written by ourselves in one canonical way: tensors by falling size of their elements, then by name,
so that all lie aligned; the header is canonical JSON, padded with spaces to a multiple of 8.

| tensor            | type, shape                                | meaning                                  |
|-------------------|--------------------------------------------|------------------------------------------|
| `program`         | i64 (steps, 15)                            | what is computed: a `ProgramStep` a row  |
| `weights.N`       | i32 (k, k, cin, cout), depthwise (k, k, c) | integer weights w                        |
| `exponents.N`     | i32 (cout)                                 | the real weight is w · 2^-exponent       |
| `bias.N`          | f64 (cout)                                 | real bias, rounded for each image        |
| `silu`, `sigmoid` | i64 (131073, 2)                            | see `tables`                             |
| `labels`          | u8                                         | UTF-8, one text a line, by index         |
| `preprocessing`   | i64 (2)                                    | side S of the input, coefficient bits    |
| `name`            | u8                                         | UTF-8: the network's name                |
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from perturbnet.errors import ArtifactMissing, DigestMismatch, ModelError
from perturbnet.runtime.artifacts import replace_durably
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex

FORMAT = "perturb-model-1"
_TYPES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "F64": np.dtype("<f8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_MAX_HEADER = 16 * 1024 * 1024
_LEAST_SIZE = 8
HINT = "`perturb model compile` makes it from the pinned weights."


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
class ProgramStep:
    """One row of the program, all integers.

    Sizes are pixels and channels; `layer` numbers weights, exponents and bias.
    """

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


STEP_FIELDS = tuple(entry.name for entry in fields(ProgramStep))


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
    steps: tuple[ProgramStep, ...]
    layers: tuple[Layer, ...]
    silu: NDArray[np.int64]
    sigmoid: NDArray[np.int64]

    @property
    def products(self) -> int:
        """How many products one image's convolutions take."""
        return sum(
            step.out_height * step.out_width * self.layers[step.layer].weights.size
            for step in self.steps
            if step.op == Op.CONV
        )

    def encode(self) -> bytes:
        """Return the file's bytes; the same for the same model, always."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The file's bytes, a tensor at a time: header first."""
        tensors = self._tensors()
        ordered = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
        header: dict[str, Any] = {"__metadata__": {"format": FORMAT}}
        offset = 0
        for name in ordered:
            array = tensors[name]
            header[name] = {
                "dtype": _NAMES[array.dtype.newbyteorder("<")],
                "shape": list(array.shape),
                "data_offsets": [offset, offset + array.nbytes],
            }
            offset += array.nbytes
        text = canonical_json.encode(header)
        text += b" " * (-len(text) % 8)
        yield struct.pack("<Q", len(text)) + text
        for name in ordered:
            array = np.ascontiguousarray(tensors[name])
            yield array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()

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


def write_artefact(artefact: Artefact, path: Path) -> str:
    """Write a model, whole or not at all, and return its SHA-256."""
    digest = hashlib.sha256()

    def write(file: BinaryIO) -> None:
        for piece in artefact.pieces():
            digest.update(piece)
            file.write(piece)

    replace_durably(path, write)
    return digest.hexdigest()


def read_artefact(path: Path, *, sha256: str | None = None) -> tuple[Artefact, str]:
    """Read a model and its SHA-256; weights stay memory-mapped.

    Raises:
        ArtifactMissing: there is no such file.
        ModelError: not such a file.
        DigestMismatch: not the one that was asked for.

    """
    if not path.is_file():
        raise ArtifactMissing(f"{path} does not exist", hint=HINT)
    if path.stat().st_size < _LEAST_SIZE:
        raise ModelError(f"{path} is too short to be a model: {path.stat().st_size} bytes")
    return decode_artefact(np.memmap(path, dtype=np.uint8, mode="r"), str(path), sha256=sha256)


def decode_artefact(
    data: NDArray[np.uint8], where: str, *, sha256: str | None = None
) -> tuple[Artefact, str]:
    """Read a model from its bytes (u8), and their SHA-256; `where` names them in errors.

    Raises:
        ModelError, DigestMismatch: see `read_artefact`.

    """
    digest = sha256_hex(data.data)
    if sha256 is not None and digest != sha256:
        raise DigestMismatch(where, sha256, digest, hint=HINT)
    return _assemble(_decode(data, where), where), digest


def forget_pages(array: NDArray[Any]) -> None:
    """Let go of the memory of an array that is mapped from a file; the file still has it."""
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if not isinstance(owner.base, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.ctypes.data - owner.ctypes.data
    first, last = (edge // mmap.PAGESIZE * mmap.PAGESIZE for edge in (start, start + array.nbytes))
    if last > first:
        owner.base.madvise(mmap.MADV_DONTNEED, first, last - first)


def _decode(data: NDArray[np.uint8], where: str) -> dict[str, NDArray[Any]]:
    if len(data) < _LEAST_SIZE:
        raise ModelError(f"{where} is too short to be a model: {len(data)} bytes")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    if length > min(_MAX_HEADER, len(data) - 8):
        raise ModelError(
            f"{where}: a header of {length} bytes; at most {_MAX_HEADER} and the file are allowed"
        )
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        if header.pop("__metadata__") != {"format": FORMAT}:
            raise ModelError(f"{where} is not of format {FORMAT}")
        body = data[8 + length :]
        return {name: _tensor(body, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{where} is not a readable model: {error!r}") from None


def _tensor(body: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    dtype: np.dtype[Any] = _TYPES[entry["dtype"]]
    shape = tuple(int(side) for side in entry["shape"])
    if not 0 <= start <= end <= len(body) or end - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"offsets {start} to {end} do not fit {dtype} {shape}")
    if start % dtype.itemsize:
        raise ValueError(f"{dtype} at offset {start} is not aligned")
    found: NDArray[Any] = body[start:end].view(dtype).reshape(shape)
    return found


def _assemble(tensors: dict[str, NDArray[Any]], where: str) -> Artefact:
    try:
        count = sum(name.startswith("weights.") for name in tensors)
        size, bits = (int(value) for value in tensors["preprocessing"])
        return Artefact(
            name=tensors["name"].tobytes().decode(),
            size=size,
            coefficient_bits=bits,
            labels=tuple(tensors["labels"].tobytes().decode().split("\n")),
            steps=tuple(ProgramStep(*map(int, row)) for row in tensors["program"]),
            layers=tuple(
                Layer(tensors[f"weights.{n:04d}"], tensors[f"exponents.{n:04d}"], tensors[f"bias.{n:04d}"])
                for n in range(count)
            ),
            silu=tensors["silu"],
            sigmoid=tensors["sigmoid"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: a tensor is missing or malformed: {error!r}") from None
