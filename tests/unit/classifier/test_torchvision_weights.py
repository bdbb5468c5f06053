"""torchvision's EfficientNetV2-L under timm's names is the same function; nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from perturbnet.classifier.canonical.compiler import compile_network
from perturbnet.classifier.torchvision_weights import assemble, load_torchvision, rename
from perturbnet.errors import ArtifactMissing, DigestMismatch, ModelError


@pytest.fixture(scope="module")
def original() -> Any:
    """Random weights and statistics; initialisation is skipped, it takes seconds and is overwritten here."""
    with torch.device("meta"):
        network = torchvision.models.efficientnet_v2_l(weights=None)
    network = network.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
                statistics = dict(module.named_buffers())
                statistics["running_mean"].normal_(0, 0.1, generator=generator)
                statistics["running_var"].uniform_(1e-3, 1.5, generator=generator)
                statistics["num_batches_tracked"].zero_()
    return network


def test_the_mapped_network_equals_torchvisions_in_float64(original: Any) -> None:
    mapped = assemble(original.state_dict(), 1000).double()
    image = torch.randn(1, 3, 65, 97, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = original.double()(image)
        found = mapped(image)
    assert expected.abs().max() > 0.01
    assert torch.equal(found, expected) or (found - expected).abs().max() < 1e-12 * expected.abs().max()


def test_every_tensor_is_used_once(original: Any) -> None:
    state = original.state_dict()
    assert len(rename(state)) == len(state)


@pytest.mark.slow
def test_it_compiles(original: Any) -> None:
    mapped = assemble({name: value.float() for name, value in original.state_dict().items()}, 1000)
    artefact = compile_network(mapped, name="torchvision", labels=tuple(map(str, range(1000))), size=64)
    assert len(artefact.labels) == 1000


@pytest.mark.parametrize("name", ["features.9.0.weight", "features.1.0.block.2.0.weight", "head.weight"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="is not a tensor of torchvision's"):
        rename({name: torch.zeros(1)})


def test_a_missing_tensor_is_refused(original: Any) -> None:
    state = original.state_dict()
    del state["classifier.1.bias"]
    with pytest.raises(ModelError, match=r"classifier\.bias"):
        assemble(state, 1000)


def test_only_the_published_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "efficientnet_v2_l-59c71312.pth"
    with pytest.raises(ArtifactMissing, match="does not exist"):
        load_torchvision(path, 1000)
    path.write_bytes(b"not it")
    with pytest.raises(DigestMismatch, match="59c71312"):
        load_torchvision(path, 1000)
