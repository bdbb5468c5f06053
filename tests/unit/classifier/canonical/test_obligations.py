"""What the design argues, shown: every layer's budget, SiLU's bound, exponents, the resize."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from perturbnet.classifier.canonical import obligations
from perturbnet.classifier.canonical.artefact import Act, Artefact, Layer
from perturbnet.classifier.canonical.obligations import budgets, prove_artefact, prove_layer
from perturbnet.classifier.canonical.resampling import coefficients, integer_row, largest_sum
from perturbnet.classifier.canonical.tables import HALF, sigmoid_table, silu_table
from perturbnet.classifier.preprocessing import axis_maps
from perturbnet.errors import ModelError
from tests.support.classifier.networks import draw_artefact

BITS = 22


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return draw_artefact()


def test_every_layers_worst_case_in_python_integers(artefact: Artefact) -> None:
    """Independent of `absolute_sums`: each weight a Python integer."""
    for budget, layer in zip(budgets(artefact), artefact.layers, strict=True):
        columns = layer.weights.reshape(-1, layer.weights.shape[-1]).T.tolist()
        totals = [sum(abs(weight) for weight in column) for column in columns]
        assert totals == obligations.absolute_sums(layer)
        worst = max(totals) * 2**24 + 2**50
        assert worst <= 2**53
        assert budget.sum_bits == pytest.approx(float(np.log2(float(worst))), abs=1e-9)
        biases = zip(layer.bias.tolist(), layer.exponents.tolist(), strict=True)
        cap = min(60, budget.cap or 60)
        assert all(abs(round(Fraction(b) * Fraction(2) ** (cap + e))) <= 2**50 for b, e in biases)


def test_exponents_are_the_largest_that_are_allowed(artefact: Artefact) -> None:
    """One more would break the weight's limit, the sum's limit or the bias's reach."""
    for layer in artefact.layers:
        totals = obligations.absolute_sums(layer)
        tops = np.abs(layer.weights).reshape(-1, layer.weights.shape[-1]).max(axis=0).tolist()
        reach = 28 - np.frexp(layer.bias)[1]
        for total, top, limit, exponent in zip(totals, tops, reach, layer.exponents, strict=True):
            assert (
                2 * total + len(layer.weights) > obligations.SUM_LIMIT
                or 2 * top + 1 > 2**23
                or exponent == limit
            )


CELLS = np.arange(-HALF, HALF + 1)
EDGES = {"left": Fraction(-1, 8192), "middle": Fraction(0), "right": Fraction(1, 8192)}


def exact_ends(table: np.ndarray, edge: Fraction) -> np.ndarray:
    """value + slope · edge in units of 2^-43, exact in int64: slopes have 2^-30, the edge is ±2^-13."""
    ends: np.ndarray = table[:, 0] * 8 + table[:, 1] * int(edge * 8192)
    return ends


@pytest.mark.parametrize("edge", EDGES)
def test_silu_never_passes_its_bound(edge: str) -> None:
    """silu(y) <= max(y, ½) and >= -½ at both ends of all cells; between them it is linear, so everywhere."""
    found = exact_ends(silu_table(), EDGES[edge])
    y = CELLS * 2**31 + int(EDGES[edge] * 8192) * 2**30  # y in units of 2^-43
    assert found[-1] == y[-1]  # slope 1 from 16: exact in binary64 as well
    # Elsewhere two roundings of binary64 move it by less than 2^-48 of a number below 16: less than one unit.
    assert (found[:-1] + 1 <= np.maximum(y[:-1], 2**42)).all()
    assert (found >= -(2**42)).all()


@pytest.mark.parametrize("edge", EDGES)
def test_silu_rounded_to_its_grid_stays_within_24_bits(edge: str) -> None:
    """With M = max(y, ½) and e = 24 - ex(M): |round(f · 2^e)| <= 2^24, in the arithmetic of the engines."""
    d = float(EDGES[edge])
    value, slope = silu_table()[:, 0] * 2.0**-40, silu_table()[:, 1] * 2.0**-30
    found = d * slope + value
    bound = np.maximum(CELLS * 2.0**-12 + d, 0.5)
    assert (np.abs(np.rint(found * 2.0 ** (24 - np.frexp(bound)[1]))) <= 2**24).all()


def test_beyond_the_table_silu_is_the_identity_or_zero() -> None:
    y = np.concatenate(
        [2.0 ** np.arange(4, 128), 3 * 2.0 ** np.arange(4, 128), [16.0, 16 + 2.0**-48, 12345.678]]
    )
    value, slope = silu_table()[-1, 0] * 2.0**-40, silu_table()[-1, 1] * 2.0**-30
    assert (((y - 16.0) * slope) + value == y).all()
    assert silu_table()[0].tolist() == [0, 0]


@pytest.mark.parametrize("edge", EDGES)
def test_a_gate_lies_between_0_and_1(edge: str) -> None:
    """So x·g is at most 2^24 · 2^24, far below 2^53, and never larger than x."""
    found = exact_ends(sigmoid_table(), EDGES[edge])
    assert found.min() >= 0
    assert found.max() <= 2**43
    assert np.rint(found / 2**19).max() <= 2**24


def test_extremes_of_the_exponents() -> None:
    """Powers of two that can be met are normal numbers: float32 for weights, binary64 for sums."""
    least, most = obligations.LEAST_EXPONENT, obligations.MOST_EXPONENT
    coarse, fine = obligations.LEAST_ACTIVATION, obligations.MOST_ACTIVATION
    with np.errstate(all="raise"):
        for value, exponent in ((2**23, least), (1, most), (2**24, coarse), (1, fine)):
            stored = np.float32(value) * np.float32(2.0**-exponent)
            assert np.finfo(np.float32).tiny <= stored < np.inf
            assert float(stored) == value * 2.0**-exponent
        for value, exponent in ((2**53, least + coarse), (1, most + fine)):
            assert value * 2.0**-exponent * 2.0**exponent == value


def one_layer(**changes: Any) -> Layer:
    layer = Layer(
        np.full((1, 1, 4, 2), 2**22, dtype=np.int32), np.full(2, 20, dtype=np.int32), np.array([0.5, 0.0])
    )
    return replace(layer, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.full((1, 1, 4, 2), 2**23 + 1, dtype=np.int32)}, "a weight of"),
        ({"weights": np.full((1, 1, 4, 2), -(2**23) - 1, dtype=np.int32)}, "a weight of"),
        ({"weights": np.full((1, 1, 57, 2), 2**23, dtype=np.int32)}, "leaves no proof"),
        ({"exponents": np.array([-61, 0], dtype=np.int32)}, "exponents -61"),
        ({"exponents": np.array([0, 101], dtype=np.int32)}, "to 101"),
        ({"bias": np.array([np.nan, 0.0])}, "not finite"),
        ({"bias": np.array([2.0**30, 0.0])}, "a bias allows only"),
    ],
)
def test_a_layer_that_cannot_be_proven(changes: dict[str, Any], message: str) -> None:
    prove_layer(one_layer(), "this")
    with pytest.raises(ModelError, match=message):
        prove_layer(one_layer(**changes), "this")


def test_the_limit_of_a_sum_is_met_exactly() -> None:
    """Σ|w| = 2^29 - 2^26 is the most: 56 weights of 2^23."""
    prove_layer(one_layer(weights=np.full((1, 1, 56, 2), -(2**23), dtype=np.int32)), "this")
    assert obligations.SUM_LIMIT == 56 * 2**23


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (0, {"height": 7}, "takes 7"),
        (0, {"op": 9}, "unknown kind"),
        (0, {"act": 5}, "unknown activation"),
        (0, {"stride": 0}, "empty side"),
        (0, {"cin": 4}, "channels; 3 arrive"),
        (0, {"pad_top": -1}, "negative padding"),
        (0, {"pad_left": 3}, "padded by more"),
        (0, {"out_height": 400}, "beyond its input"),
        (0, {"layer": 99}, "names layer 99"),
        (0, {"kernel": 2}, "has weights"),
        (2, {"shortcut": 2}, "adds"),
        (-1, {"act": int(Act.SILU)}, "no plain matrix"),
        (-1, {"out_height": 2}, "resizes by a 1×1"),
    ],
)
def test_a_program_that_does_not_fit(
    artefact: Artefact, number: int, changes: dict[str, Any], message: str
) -> None:
    prove_artefact(artefact)
    steps = list(artefact.steps)
    steps[number] = replace(steps[number], **changes)
    with pytest.raises(ModelError, match=message):
        prove_artefact(replace(artefact, steps=tuple(steps)))


def test_a_model_without_steps_or_with_other_labels(artefact: Artefact) -> None:
    with pytest.raises(ModelError, match="0 steps"):
        prove_artefact(replace(artefact, steps=()))
    with pytest.raises(ModelError, match="5 logits and 2 labels"):
        prove_artefact(replace(artefact, labels=("a", "b")))


def test_pooling_too_many_positions(artefact: Artefact) -> None:
    side = 2**15
    pools = [n for n, step in enumerate(artefact.steps) if step.op in {2, 3}]
    for number in pools:
        steps = [
            replace(s, height=side, width=side, out_height=side, out_width=side, kernel=1, stride=1)
            for s in artefact.steps[number:]
        ]
        with pytest.raises(ModelError):
            obligations._prove_step(artefact, steps[0], artefact.steps[number].cin, "step")


def sampled_sides() -> list[int]:
    return [1, 2, 3, 4, 5, 7, 95, 96, 97, 191, 192, 193, 479, 480, 481, 1999, 2000, *range(11, 2000, 217)]


def bound_of(side: int, shorter: int, size: int) -> tuple[int, int]:
    """Σ|c| and Σ⁺ of one axis, from integers alone."""
    axis = axis_maps(shorter, side, size)[1]
    rows = [integer_row(n, d, BITS) for n, d in zip(axis.numerators, axis.denominators, strict=True)]
    assert all(sum(row) == 2**BITS for row in rows)
    return max(sum(map(abs, row)) for row in rows), max(sum(c for c in row if c > 0) for row in rows)


@pytest.mark.parametrize("size", [96, 480])
def test_every_resize_is_exact(size: int) -> None:
    """Squares of sampled sides from 1 to 2000, and odd shapes; the bound includes the subtraction of 255."""
    worst = 0
    for side in sampled_sides():
        if size == 480 and side > 1000 and side % 2:
            continue
        spread, positive = bound_of(side, side, size)
        reach = 255 * positive * spread + 255 * 2 ** (2 * BITS - 1)
        assert reach <= 2**53
        worst = max(worst, reach)
    assert worst > 2**52  # 22 bits are used, not wasted


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 2), (96, 97), (333, 500)])
def test_the_bound_used_is_the_bound_shown(height: int, width: int) -> None:
    rows, columns = coefficients(height, width, 96, BITS)
    shorter = min(height, width)
    vertical, horizontal = bound_of(height, shorter, 96), bound_of(width, shorter, 96)
    expected = 255 * max(vertical[1] * horizontal[0], horizontal[1] * vertical[0])
    assert expected == largest_sum(rows, columns, BITS)


def test_a_resize_that_is_not_exact_is_refused() -> None:
    with pytest.raises(ModelError, match="no exact resize"):
        coefficients(100, 100, 96, 23)
