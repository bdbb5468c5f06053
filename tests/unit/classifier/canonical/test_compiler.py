"""What the compiler takes, what it refuses, and that it gives one file wherever it runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers.squeeze_excite import SEModule
from torch import nn

from perturbnet.classifier.canonical.artefact import Artefact, Op
from perturbnet.classifier.canonical.compiler import compile_network
from perturbnet.classifier.canonical.engine import CanonicalEngine
from perturbnet.classifier.canonical.integer import IntegerEngine
from perturbnet.classifier.canonical.obligations import SUM_LIMIT, budgets
from perturbnet.classifier.canonical.quantising import Linear, Norm, choose_exponents, fold, quantise
from perturbnet.errors import ModelError
from tests.support.classifier.networks import LABELS, SIZE, draw_artefact, draw_network, noise

ROOT = Path(__file__).parents[4]


def compiled(network: Any) -> Artefact:
    return compile_network(network, name="small", labels=LABELS, size=SIZE)


def poison(path: str, value: float) -> Callable[[Any], None]:
    def apply(network: Any) -> None:
        with torch.no_grad():
            network.get_parameter(path).view(-1)[1] = value

    return apply


def replace_module(path: str, module: Callable[[nn.Module], nn.Module]) -> Callable[[Any], None]:
    def apply(network: Any) -> None:
        network.set_submodule(path, module(network.get_submodule(path)))

    return apply


def set_on(path: str, **values: Any) -> Callable[[Any], None]:
    def apply(network: Any) -> None:
        for name, value in values.items():
            setattr(network.get_submodule(path), name, value)

    return apply


MBCONV = "blocks.2.0"
REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "weight nan": (poison("blocks.0.0.conv.weight", float("nan")), "not finite"),
    "weight inf": (poison("classifier.weight", float("inf")), "not finite"),
    "bias nan": (poison("classifier.bias", float("nan")), "not finite"),
    "variance": (lambda net: net.bn1.running_var.fill_(-1.0), "not positive"),
    "statistics": (lambda net: net.bn2.running_mean.fill_(float("inf")), "not finite"),
    "too large": (lambda net: net.classifier.weight.data.mul_(1e30), "the least exponent is -60"),
    "block": (replace_module(MBCONV, lambda _: nn.Identity()), "Identity is not a block"),
    "stage": (replace_module("blocks.0", lambda _: nn.ModuleList()), "not a stage"),
    "relu": (set_on(f"{MBCONV}.bn2", act=nn.ReLU()), "ReLU where SiLU"),
    "linear with silu": (set_on(f"{MBCONV}.bn3", act=nn.SiLU()), "SiLU where Identity"),
    "norm": (
        replace_module(f"{MBCONV}.bn2", lambda m: nn.BatchNorm2d(len(m.state_dict()["weight"]))),
        "BatchNormAct2d",
    ),
    "norm drops": (set_on("bn1", drop=nn.Dropout()), "drops"),
    "norm without weights": (set_on("bn1", affine=False), "no weights"),
    "gate": (set_on(f"{MBCONV}.se", gate=nn.Hardsigmoid()), "SiLU and sigmoid"),
    "gate's act": (set_on(f"{MBCONV}.se", act1=nn.ReLU()), "SiLU and sigmoid"),
    "gate's kind": (replace_module(f"{MBCONV}.se", lambda _: SEModule(16)), "SEModule"),
    "gate's bias": (set_on(f"{MBCONV}.se.conv_reduce", bias=None), "with a bias"),
    "anti-alias": (set_on(MBCONV, aa=nn.AvgPool2d(2)), "anti-alias"),
    "space to depth": (set_on(MBCONV, conv_s2d=nn.Conv2d(3, 3, 2)), "space into depth"),
    "kernel": (replace_module("conv_stem", lambda _: nn.Conv2d(3, 8, (3, 5), 2, (1, 1))), "square"),
    "stride": (replace_module("conv_stem", lambda _: nn.Conv2d(3, 8, 3, (2, 1), 1)), "square"),
    "dilation": (replace_module("conv_stem", lambda _: nn.Conv2d(3, 8, 3, 2, 1, dilation=2)), "dilation 1"),
    "padding": (replace_module("conv_stem", lambda _: nn.Conv2d(3, 8, 3, 2, (1, 0))), "symmetric"),
    "padding by name": (set_on("conv_head", padding="same"), "symmetric"),
    "much padding": (replace_module("conv_stem", lambda _: nn.Conv2d(3, 8, 3, 2, 2)), "within its kernel"),
    "reflected": (
        replace_module("conv_stem", lambda _: nn.Conv2d(3, 8, 3, 2, 1, padding_mode="reflect")),
        "zeros",
    ),
    "groups": (set_on("blocks.0.0.conv", groups=2), "depthwise"),
    "grey": (replace_module("conv_stem", lambda _: nn.Conv2d(1, 8, 3, 2, 1)), "RGB"),
    "transposed": (replace_module("conv_stem", lambda _: nn.ConvTranspose2d(3, 8, 3)), "plain convolution"),
    "head": (replace_module("classifier", lambda _: nn.Identity()), "one matrix"),
    "pool": (set_on("global_pool", pool_type="max"), "mean over positions"),
    "no head": (replace_module("conv_head", lambda _: nn.Identity()), "plain convolution"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused(name: str) -> None:
    network = draw_network()
    spoil, message = REFUSED[name]
    with torch.no_grad():
        spoil(network)
    with pytest.raises(ModelError, match=message):
        compiled(network)


def test_other_networks_are_refused() -> None:
    with pytest.raises(ModelError, match="not timm's EfficientNet"):
        compiled(nn.Sequential())
    separable = timm.create_model("efficientnet_b0", pretrained=False, num_classes=5)
    with pytest.raises(ModelError, match="DepthwiseSeparableConv"):
        compiled(separable)


def test_labels_and_sizes_must_fit() -> None:
    with pytest.raises(ModelError, match="5 logits and 2 labels"):
        compile_network(draw_network(), name="x", labels=("a", "b"), size=SIZE)
    with pytest.raises(ModelError, match="line break"):
        compile_network(draw_network(), name="x", labels=("a\nb", *LABELS[1:]), size=SIZE)
    with pytest.raises(ModelError, match="0 pixels"):
        compile_network(draw_network(), name="x", labels=LABELS, size=0)


def test_batch_norms_eps_is_read_from_the_module() -> None:
    network = draw_network()
    first = compiled(network)
    network.bn1.eps = 0.5
    assert not np.array_equal(first.layers[0].weights, compiled(network).layers[0].weights)


def test_training_mode_changes_nothing() -> None:
    network = draw_network()
    assert compiled(network).encode() == compiled(network.train()).encode()


def test_a_classifier_without_bias() -> None:
    network = draw_network()
    network.classifier.bias = None
    assert not compiled(network).layers[-1].bias.any()


def test_the_program_names_every_layer_once() -> None:
    artefact = draw_artefact()
    gates = [step for step in artefact.steps if step.op == Op.GATE]
    used = [step.layer for step in artefact.steps if step.op != Op.POOL] + [step.layer + 1 for step in gates]
    assert sorted(used) == list(range(len(artefact.layers)))
    assert [budget.kind for budget in budgets(artefact)].count("squeeze") == len(gates) == 2


def test_folding_divides_by_what_the_input_is_larger_by() -> None:
    one = np.ones(1)
    norm = Norm(2 * one, 3 * one, 5 * one, 15.0 * one, 1.0)
    linear = fold(np.full((1, 1, 1, 1), 8.0), 7 * one, norm, 2.0)
    assert (linear.weights.item(), linear.bias.item()) == (8 * (2 / 4) / 2, 3 - 5 * (2 / 4) + 7 * (2 / 4))


def test_exponents_at_their_edges() -> None:
    columns = np.array([[1.0, 0.0], [-0.75, 0.1], [0.0, 0.0], [0.0, 0.0], [1e-40, 0.0]])
    bias = np.array([0.0, 0.0, 0.0, 0.75, 0.0])
    found = choose_exponents(columns, bias, "this").tolist()
    assert found == [23, 23, 0, 28, 100]


def test_a_long_sum_takes_a_smaller_exponent() -> None:
    columns = np.ones((1, 57))
    (exponent,) = choose_exponents(columns, np.zeros(1), "this").tolist()
    assert exponent == 22
    assert 57 * 2**22 <= SUM_LIMIT < 57 * 2**23


def test_rounding_is_half_to_even() -> None:
    weights = np.array([[0.5, 1.5], [2.5, -0.5], [2.0**22, 2.0**22]])[None, None] * 2.0**-22
    bias = np.full(2, 2.0**27)  # holds the exponents at 0 ...
    layer = quantise(Linear(weights * 2.0**22, bias), "this")
    assert layer.exponents.tolist() == [0, 0]
    assert layer.weights[0, 0, :2].tolist() == [[0, 2], [2, 0]]


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    from perturbnet.classifier.canonical.artefact import read_artefact, write_artefact

    artefact = draw_artefact()
    path = tmp_path / "model"
    digest = write_artefact(artefact, path)
    assert path.read_bytes() == artefact.encode()
    again, found = read_artefact(path, sha256=digest)
    assert found == digest == hashlib.sha256(artefact.encode()).hexdigest()
    assert again.encode() == artefact.encode()
    assert (again.steps, again.labels, again.name, again.size) == (
        artefact.steps,
        artefact.labels,
        artefact.name,
        artefact.size,
    )


COMPILE = """
import sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads({threads})
import hashlib
from tests.support.classifier.networks import draw_artefact
print(hashlib.sha256(draw_artefact(7).encode()).hexdigest())
"""


def compile_under(threads: int, **environment: str) -> str:
    code = COMPILE.format(root=str(ROOT), threads=threads)
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_setting_compiles_the_same_file(threads: int, capability: str) -> None:
    here = hashlib.sha256(draw_artefact(7).encode()).hexdigest()
    features = "" if capability == "avx512" else "AVX512F AVX512CD AVX512_SKX"
    features += " AVX2 FMA3" if capability == "default" else ""
    found = compile_under(threads, ATEN_CPU_CAPABILITY=capability, NPY_DISABLE_CPU_FEATURES=features)
    assert found == here


@pytest.mark.slow
def test_efficientnetv2_l_compiles() -> None:
    """All layers are provable and both engines agree; batch norms see noise once, as training would."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnetv2_l", pretrained=False).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(
            torch.tensor(np.stack([noise(seed, 64, 64) for seed in range(4)])).permute(0, 3, 1, 2) / 127.5 - 1
        )
    artefact = compile_network(network.eval(), name="L", labels=tuple(map(str, range(1000))), size=64)
    assert max(budget.sum_bits for budget in budgets(artefact)) <= 53
    assert len(artefact.steps) > 250
    image = noise(1, 64, 64)
    found = CanonicalEngine(artefact, "00").logits(image)
    assert (IntegerEngine(artefact, "00").logits(image) + 0.0).tobytes() == (found + 0.0).tobytes()
    with torch.inference_mode():
        levels = torch.tensor(image).double().permute(2, 0, 1)[None]
        exact = network.double()(levels / 127.5 - 1)[0].numpy()
    assert np.abs(found - exact).max() < 1e-3 * np.abs(exact).max()
