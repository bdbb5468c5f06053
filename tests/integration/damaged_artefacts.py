"""A model's file, damaged in every way that must be refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np

from perturbnet.classifier.canonical.artefact import Artefact, Op

WRONG_STEPS = {
    "op": (0, 4, -1),
    "layer": (-1, 10**9),
    "cin": (0, 4, 1 << 40),
    "kernel": (0, 1 << 62),
    "stride": (0, -1),
    "pad_top": (-1, 3),
    "out_height": (0, 49, 1 << 31),
    "depthwise": (1,),
    "act": (2,),
    "shortcut": (2, 4),
}


def _with_layer(artefact: Artefact, number: int, **change: Any) -> Artefact:
    layers = list(artefact.layers)
    layers[number] = replace(layers[number], **change)
    return replace(artefact, layers=tuple(layers))


def _with_step(artefact: Artefact, number: int, **change: int) -> Artefact:
    steps = list(artefact.steps)
    steps[number] = replace(steps[number], **change)
    return replace(artefact, steps=tuple(steps))


def damaged_artefacts(artefact: Artefact) -> dict[str, bytes]:
    """All of them by what is wrong."""
    return {**_damaged_bytes(artefact), **_false_numbers(artefact), **_wrong_programs(artefact)}


def _damaged_bytes(artefact: Artefact) -> dict[str, bytes]:
    whole = artefact.encode()
    (length,) = struct.unpack_from("<Q", whole)
    return {
        "nothing": b"",
        "seven bytes": whole[:7],
        "half a header": whole[: 8 + length // 2],
        "half a file": whole[: len(whole) // 2],
        "one byte short": whole[:-1],
        "one byte more": whole + b"\0",
        "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + whole[8:],
        "a header too short": struct.pack("<Q", length - 8) + whole[8:],
        "another format": whole.replace(b"perturb-model-1", b"perturb-model-2", 1),
        "a shape of 2^60": whole.replace(b'"shape":[131073,2]', b'"shape":[1152921504606846976,16]', 1),
        "a type unknown": whole.replace(b'"F64"', b'"F16"', 1),
        "a name twice": whole.replace(b'"bias.0001"', b'"bias.0000"', 1),
        "a layer less": whole.replace(b'"weights.0001"', b'"weighty.0001"', 1),
    }


def _false_numbers(artefact: Artefact) -> dict[str, bytes]:
    first, wide = artefact.layers[0], artefact.layers[2]
    table, weights, exponents = artefact.silu.copy(), first.weights.copy(), first.exponents.copy()
    endless, loud = first.bias.copy(), first.bias.copy()
    table[70000, 0] += 1
    weights[0, 0, 0, 0], exponents[0] = (1 << 23) + 1, 201
    endless[0], loud[0] = np.inf, 2.0 ** (29 - int(first.exponents[0]))
    broken = {
        "a table off by one": replace(artefact, silu=table),
        "sums beyond 2^53": _with_layer(artefact, 2, weights=np.full_like(wide.weights, 1 << 23)),
        "a weight beyond 2^23": _with_layer(artefact, 0, weights=weights),
        "a cap below 22": _with_layer(artefact, 0, bias=loud),
        "a bias of infinity": _with_layer(artefact, 0, bias=endless),
        "an exponent of 201": _with_layer(artefact, 0, exponents=exponents),
        "biases too few": _with_layer(artefact, 0, bias=first.bias[1:]),
        "a label less": replace(artefact, labels=artefact.labels[1:]),
        "a label with a tab": replace(artefact, labels=("\t", *artefact.labels[1:])),
        "a size of 2^40": replace(artefact, size=1 << 40),
        "coefficients of 60 bits": replace(artefact, coefficient_bits=60),
    }
    return {name: model.encode() for name, model in broken.items()}


def _wrong_programs(artefact: Artefact) -> dict[str, bytes]:
    pool = next(number for number, step in enumerate(artefact.steps) if step.op == Op.POOL)
    broken = {
        "no steps": replace(artefact, steps=artefact.steps[:0]),
        "a step less": replace(artefact, steps=artefact.steps[:-1]),
        "a pool of 2^20 pixels": _with_step(artefact, pool, height=1 << 10, width=1 << 10),
    }
    for field, wrong in WRONG_STEPS.items():
        for value in wrong:
            broken[f"{field} {value}"] = _with_step(artefact, 0, **{field: value})
    return {name: model.encode() for name, model in broken.items()}
