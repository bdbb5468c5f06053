"""The networks, built by timm's own code and filled from safetensors; never with random weights.

A network is first built on torch's "meta" device, where tensors have shapes but no values, and then takes
every parameter and buffer from the file (`strict`, `assign`). A tensor the file lacks cannot be used by
accident, because there is nothing in it.

`reference` is a small EfficientNetV2 (Tan and Le, 2021, arXiv:2104.00298): a plain convolution block,
fused-MBConv stages, MBConv stages with squeeze-excite, with TensorFlow padding and batch norm like
`tf_efficientnetv2_l.in1k`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from perturbnet.errors import ModelError

REFERENCE_NAME = "perturb_efficientnetv2_reference"
PRODUCTION_NAME = "tf_efficientnetv2_l.in1k"
_REFERENCE_STAGES = [
    ["cn_r1_k3_s1_e1_c16_skip"],
    ["er_r2_k3_s2_e4_c24"],
    ["er_r1_k3_s2_e4_c40"],
    ["ir_r2_k3_s2_e4_c64_se0.25"],
    ["ir_r2_k3_s1_e4_c80_se0.25"],
]
_BATCH_NORM_EPS = 1e-3


def build_reference(classes: int) -> nn.Module:
    """Build the small network.

    Input (N, 3, 96, 96), logits (N, classes). For training; else use `load_network`.
    """
    return EfficientNet(
        decode_arch_def(_REFERENCE_STAGES),  # type: ignore[no-untyped-call]
        num_classes=classes,
        num_features=240,
        stem_size=16,
        pad_type="same",
        norm_layer=partial(nn.BatchNorm2d, eps=_BATCH_NORM_EPS),
        act_layer=nn.SiLU,
    )


def _build_production(classes: int) -> nn.Module:
    return timm.create_model(PRODUCTION_NAME, pretrained=False, num_classes=classes)


_BUILDERS: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {REFERENCE_NAME: build_reference, PRODUCTION_NAME: _build_production}
)


def load_network(name: str, classes: int, weights: Path) -> nn.Module:
    """Return the network called `name` with the weights of a safetensors file, in evaluation mode.

    Raises:
        ModelError: an unknown name; a file that is not safetensors, or lacks, adds or reshapes a tensor.

    """
    if name not in _BUILDERS:
        raise ModelError(f"no network is called {name!r}; expected one of {sorted(_BUILDERS)}")
    with torch.device("meta"):
        network = _BUILDERS[name](classes)
    try:
        network.load_state_dict(load_file(weights), strict=True, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{weights} does not fit {name}: {error}") from error
    return network.eval().requires_grad_(requires_grad=False)
