"""torchvision's EfficientNetV2-L, the weights of the public subnet, in the names of timm's network.

timm's `efficientnetv2_l` is the same network (Tan and Le, 2021, arXiv:2104.00298); only names differ, and one
number: both pad symmetrically, but torchvision's batch norm has eps 1e-3 where timm's default is 1e-5. What
torchvision calls fused blocks without expansion are timm's plain convolution blocks.

| torchvision                        | timm                                                  |
|------------------------------------|-------------------------------------------------------|
| `features.0`                       | `conv_stem`, `bn1`                                    |
| `features.S.B.block.J`, S = 1..7   | `blocks.(S-1).B.{conv…,bn…}`, J-th pair, see `_PARTS` |
| `features.S.B.block.J.fc1`, `.fc2` | `blocks.(S-1).B.se.conv_reduce`, `.conv_expand`       |
| `features.8`                       | `conv_head`, `bn2`                                    |
| `classifier.1`                     | `classifier`                                          |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import timm
import torch
from torch import nn

from perturbnet.errors import ArtifactMissing, DigestMismatch, ModelError
from perturbnet.runtime.artifacts import sha256_file

NAME = "torchvision/efficientnet_v2_l.IMAGENET1K_V1"
SHA256_BEGINS = "59c71312"
BATCH_NORM_EPS = 1e-3

_BLOCK = re.compile(r"features\.([1-7])\.(\d+)\.block\.(\d)\.(?:(\d)|(fc[12]))\.(.+)")
# How many children a block has tells its kind; each pair is (convolution, batch norm).
_PARTS: Mapping[int, Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        1: {0: ("conv", "bn1")},
        2: {0: ("conv_exp", "bn1"), 1: ("conv_pwl", "bn2")},
        4: {0: ("conv_pw", "bn1"), 1: ("conv_dw", "bn2"), 3: ("conv_pwl", "bn3")},
    }
)
_WHOLE: Mapping[str, str] = MappingProxyType(
    {
        "features.0.0.": "conv_stem.",
        "features.0.1.": "bn1.",
        "features.8.0.": "conv_head.",
        "features.8.1.": "bn2.",
        "classifier.1.": "classifier.",
    }
)
_GATE: Mapping[str, str] = MappingProxyType({"fc1": "conv_reduce", "fc2": "conv_expand"})


def load_torchvision(path: Path, classes: int) -> nn.Module:
    """Return timm's network with the weights of torchvision's file, in evaluation mode.

    Raises:
        ArtifactMissing: no such file.
        DigestMismatch: not the file that torchvision publishes.
        ModelError: its tensors do not fit.

    """
    if not path.is_file():
        raise ArtifactMissing(f"{path} does not exist", hint=f"It is torchvision's {NAME.split('/')[1]}.")
    found = sha256_file(path)
    if not found.startswith(SHA256_BEGINS):
        raise DigestMismatch(str(path), f"sha256 {SHA256_BEGINS}…", f"sha256 {found}")
    return assemble(torch.load(path, map_location="cpu", weights_only=True, mmap=True), classes)


def assemble(state: Mapping[str, torch.Tensor], classes: int) -> nn.Module:
    """Build the network without values and fill it from torchvision's state; every tensor must fit.

    Raises:
        ModelError: a tensor is unknown, missing, or of another shape.

    """
    with torch.device("meta"):
        network = timm.create_model(
            "efficientnetv2_l",
            pretrained=False,
            num_classes=classes,
            norm_layer=partial(nn.BatchNorm2d, eps=BATCH_NORM_EPS),
        )
    try:
        network.load_state_dict(rename(state), strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(f"these are not weights of torchvision's EfficientNetV2-L: {error}") from None
    found: nn.Module = network.eval().requires_grad_(requires_grad=False)
    return found


def rename(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return torchvision's tensors under timm's names.

    Raises:
        ModelError: a name that is not torchvision's.

    """
    children: dict[tuple[str, str], int] = {}
    for name in state:
        if match := _BLOCK.fullmatch(name):
            key = (match[1], match[2])
            children[key] = max(children.get(key, 0), int(match[3]) + 1)
    return {_rename(name, children): tensor for name, tensor in state.items()}


def _rename(name: str, children: Mapping[tuple[str, str], int]) -> str:
    for old, new in _WHOLE.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    if match := _BLOCK.fullmatch(name):
        stage, block, child, part, gate, rest = match.groups()
        prefix = f"blocks.{int(stage) - 1}.{block}."
        if gate:
            return f"{prefix}se.{_GATE[gate]}.{rest}"
        pair = _PARTS.get(children[stage, block], {}).get(int(child))
        if pair and int(part) < len(pair):
            return f"{prefix}{pair[int(part)]}.{rest}"
    raise ModelError(f"{name!r} is not a tensor of torchvision's EfficientNetV2-L")
