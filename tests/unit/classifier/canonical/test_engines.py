"""Three engines, one answer to the last bit, whatever the image; and close to the network in float64."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbnet.classifier.canonical import compiled, integer, obligations
from perturbnet.classifier.canonical.artefact import Artefact, Layer
from perturbnet.classifier.canonical.compiled import CompiledArithmetic
from perturbnet.classifier.canonical.compiler import compile_network
from perturbnet.classifier.canonical.engine import WORTH_COMPILING, CanonicalEngine, expo, require_in_range
from perturbnet.classifier.canonical.integer import IntegerEngine, choose_exponent, shift_half_even
from perturbnet.classifier.canonical.layers import unit_of
from perturbnet.classifier.preprocessing import matrices
from perturbnet.errors import ModelError
from tests.support.classifier.networks import (
    LABELS,
    SIZE,
    draw_artefact,
    draw_network,
    hostile_images,
    noise,
)

Engines = tuple[CanonicalEngine, CanonicalEngine, IntegerEngine]


def build_all(artefact: Artefact) -> Engines:
    """Torch's operations, compiled loops, integers."""
    return (
        CanonicalEngine(artefact, "00", compiled=False),
        CanonicalEngine(artefact, "00", compiled=True),
        IntegerEngine(artefact, "00"),
    )


@pytest.fixture(scope="module")
def engines() -> Engines:
    return build_all(draw_artefact())


def require_same(engines: Engines, image: np.ndarray) -> np.ndarray:
    found = [engine.logits(image) + 0.0 for engine in engines]
    assert np.isfinite(found[0]).all()
    assert len({logits.tobytes() for logits in found}) == 1
    assert len({engine.classify([image])[0] for engine in engines}) == 1
    return found[0]


@pytest.mark.parametrize("name", hostile_images())
def test_hostile_images_give_the_same_bits(engines: Engines, name: str) -> None:
    require_same(engines, hostile_images()[name])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    few=st.sampled_from([256, 2, 3]),
)
def test_any_image_gives_the_same_bits(
    engines: Engines, seed: int, height: int, width: int, few: int
) -> None:
    levels = np.random.default_rng(seed).integers(0, few, (height, width, 3)) * (255 // (few - 1))
    require_same(engines, levels.astype(np.uint8))


@pytest.mark.parametrize("pad", ["same", ""])
@pytest.mark.parametrize("size", [32, 37])
def test_both_paddings_and_odd_sizes(pad: str, size: int) -> None:
    require_same(build_all(draw_artefact(1, pad=pad, size=size)), noise(9, size, size + 3))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 3e4])
def test_weights_of_any_magnitude(factor: float) -> None:
    artefact = scaled(draw_artefact(2), factor)
    require_same(build_all(artefact), noise(1, 40, 40))


def scaled(artefact: Artefact, factor: float, *, number: int = 3) -> Artefact:
    """One layer's real weights times a power of two near `factor`: other exponents, same integers."""
    shift = int(np.log2(factor))
    layers = list(artefact.layers)
    layers[number] = replace(layers[number], exponents=layers[number].exponents - np.int32(shift))
    return replace(artefact, layers=tuple(layers))


def with_bias(artefact: Artefact, number: int, bias: float) -> Artefact:
    """One layer's exponents raised to the edge of what a bias allows: its cap becomes 22."""
    layer = artefact.layers[number]
    value = np.full(len(layer.bias), bias)
    exponents = np.full(len(layer.bias), 28 - int(np.frexp(bias)[1]), dtype=np.int32)
    layers = list(artefact.layers)
    layers[number] = Layer(layer.weights, exponents, value)
    return replace(artefact, layers=tuple(layers))


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The caps that were smaller than what the tensor would have taken."""
    found: list[int] = []

    def record(largest: float, cap: int) -> int:
        if cap < choose_exponent(largest, obligations.MOST_ACTIVATION):
            found.append(cap)
        return choose_exponent(largest, cap)

    monkeypatch.setattr(integer, "choose_exponent", record)
    return found


@pytest.mark.parametrize("number", range(1, 12))
def test_a_cap_at_any_layer(number: int, binding: list[int]) -> None:
    """A bias so large for its weights that it bounds the input's exponent."""
    artefact = with_bias(draw_artefact(3), number, -0.75)
    assert obligations.cap_of_bias(artefact.layers[number]) == obligations.LEAST_CAP
    obligations.prove_artefact(artefact)
    require_same(build_all(artefact), np.full((33, 33, 3), 127, dtype=np.uint8))
    require_same(build_all(artefact), noise(4, 33, 33))


def test_a_cap_that_binds_costs_little(binding: list[int]) -> None:
    """Small activations before small weights and large biases: both engines agree, and are accurate."""
    network = draw_network(5)
    norm = network.blocks[1][1].bn1
    with torch.no_grad():
        network.blocks[1][0].bn2.weight *= 0.01
        network.blocks[1][0].bn2.bias *= 0.01
        norm.weight *= 1e-4
        norm.bias += 0.6
    artefact = compile_network(network, name="capped", labels=LABELS, size=SIZE)
    image = noise(6, 33, 33)
    found = require_same(build_all(artefact), image)
    assert obligations.LEAST_CAP in binding
    assert np.abs(found - evaluate(network, image)).max() < 2e-6 * np.abs(found).max()


def evaluate(network: Any, image: np.ndarray) -> np.ndarray:
    """The network in float64, behind the exact resize."""
    rows, columns = (torch.tensor(np.array(side)) for side in matrices(*image.shape[:2], SIZE))
    levels = rows @ torch.tensor(image).double().permute(2, 0, 1) @ columns.T
    with torch.inference_mode():
        found: np.ndarray = network.double()(levels[None] / 127.5 - 1)[0].numpy()
    return found


def test_close_to_the_network_in_float64() -> None:
    network, engine = draw_network(0), CanonicalEngine(draw_artefact(0), "00")
    for image in hostile_images().values():
        exact = evaluate(network, image)
        assert np.abs(engine.logits(image) - exact).max() < 2e-5 * max(1.0, np.abs(exact).max())


def test_what_an_engine_is(engines: Engines) -> None:
    assert [engine.name for engine in engines] == ["float64", "float64", "integer"]
    assert len({engine.model_digest for engine in engines}) == 1
    assert IntegerEngine.reproducible


def test_more_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor, however small, is split among the threads."""
    monkeypatch.setattr(compiled, "LEAST_SHARE", 1)
    artefact = draw_artefact()
    image = noise(2, 41, 33)
    expected = CanonicalEngine(artefact, "00", compiled=False).logits(image)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            assert (
                CanonicalEngine(artefact, "00", compiled=True).logits(image).tobytes() == expected.tobytes()
            )
    finally:
        torch.set_num_threads(before)


def test_a_small_network_is_not_worth_compiling_for() -> None:
    artefact = draw_artefact()
    assert artefact.products < WORTH_COMPILING
    assert not isinstance(CanonicalEngine(artefact, "00")._arithmetic, CompiledArithmetic)


def test_compiled_loops_are_for_the_cpu() -> None:
    with pytest.raises(ModelError, match="for the CPU, not for meta"):
        CanonicalEngine(draw_artefact(), "00", device="meta", compiled=True)


def test_the_integer_engine_shares_nothing_with_the_other() -> None:
    tree = ast.parse(Path(integer.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "torch" not in names
    assert not any(name and name.endswith("canonical.engine") for name in names)


@given(st.integers(-(2**53), 2**53), st.integers(-9, 300))
def test_shifts_round_half_to_even(value: int, shift: int) -> None:
    from fractions import Fraction

    expected = round(Fraction(value) / Fraction(2) ** shift)
    assert int(shift_half_even(np.array([value]), np.int64(shift))[0]) == expected


@given(st.lists(st.floats(0, 2.0**100), min_size=1, max_size=5), st.integers(-30, 60))
def test_exponents_agree_and_bound(largest: list[float], cap: int) -> None:
    found = [choose_exponent(value, cap) for value in largest]
    assert found == expo(torch.tensor(largest, dtype=torch.float64), cap).tolist()
    assert all(value * 2.0**exponent <= 2**24 for value, exponent in zip(largest, found, strict=True))
    assert max(found) <= cap


@given(st.integers(-1023, 1022))
def test_a_unit_is_exact(exponent: int) -> None:
    assert unit_of(torch.tensor([exponent])).tolist() == [[[2.0**-exponent]]]


@pytest.mark.parametrize("largest", [float("inf"), float("nan"), 2.0**124])
def test_activations_beyond_float32_are_refused(largest: float) -> None:
    with pytest.raises(ModelError, match="activations reach"):
        choose_exponent(largest, 60)
    for others in ([], [1.0], [2.0**123]):
        with pytest.raises(ModelError, match="activations reach"):
            require_in_range(torch.tensor([[*others, largest]], dtype=torch.float64))


@pytest.mark.parametrize(("compiled", "late"), [(True, False), (False, False), (False, True)])
def test_an_image_out_of_range_is_no_answer_for_its_batch(compiled: bool, late: bool) -> None:
    """Checked late, as on a GPU, the pass runs to its end with infinities and NaN."""
    artefact = scaled(scaled(draw_artefact(2), 2.0**70), 2.0**70, number=5)
    beyond = CanonicalEngine(artefact, "00", compiled=compiled)
    beyond._check_late = late
    with pytest.raises(ModelError, match="activations reach"):
        beyond.classify([np.full((9, 9, 3), 255, dtype=np.uint8), noise(1, 40, 40)])


def test_an_unproven_artefact_is_caught_at_run_time() -> None:
    """The integer engine checks every sum of every image, even when nobody has proven the file."""
    artefact = draw_artefact(4)
    layers = list(artefact.layers)
    layers[2] = replace(layers[2], weights=np.full_like(layers[2].weights, 2**30))
    with pytest.raises(ModelError, match="beyond 2\\^53"):
        IntegerEngine(replace(artefact, layers=tuple(layers)), "00").logits(noise(1, 33, 33))
