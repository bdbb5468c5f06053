"""Weights are the pinned ones or there are none: a failed download never became a random network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from perturbnet.classifier import open_engine, weights
from perturbnet.classifier.models import Model, find_model, open_float32
from perturbnet.classifier.preprocessing import REFERENCE
from perturbnet.classifier.weights import PinnedWeights, hub_weights
from perturbnet.errors import ArtifactError, ArtifactMissing, ConfigError, DigestMismatch, ModelError
from perturbnet.runtime.artifacts import Pin, read_pins

REPOSITORY = "timm/tf_efficientnetv2_l.in1k"
DATA = b"pretend weights"
SHA256 = hashlib.sha256(DATA).hexdigest()
BY_REVISION = PinnedWeights(REPOSITORY, "c8d2922", "model.safetensors", None, None)
BY_DIGEST = PinnedWeights(REPOSITORY, "c8d2922", "model.safetensors", SHA256, len(DATA))


def put(hub: Path, data: bytes = DATA, *, blob: str = SHA256, revision: str = "c8d2922" + "0" * 33) -> Path:
    """Lay a file out as huggingface_hub does: a link in the snapshot to a blob named by its digest."""
    folder = hub / "models--timm--tf_efficientnetv2_l.in1k"
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / blob).write_bytes(data)
    link = folder / "snapshots" / revision / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../../blobs") / blob)
    return link


@pytest.mark.parametrize("wanted", [BY_REVISION, BY_DIGEST])
def test_the_right_file_is_found_and_its_digest_told(tmp_path: Path, wanted: PinnedWeights) -> None:
    link = put(tmp_path)
    assert hub_weights(wanted, [tmp_path / "empty", tmp_path]) == (link, SHA256)


@pytest.mark.parametrize("wanted", [BY_REVISION, BY_DIGEST])
@pytest.mark.parametrize("data", [b"", DATA[:-1], b"<html>Too Many Requests"])
def test_a_download_that_failed_half_way_is_refused(
    tmp_path: Path, wanted: PinnedWeights, data: bytes
) -> None:
    put(tmp_path, data)
    with pytest.raises(DigestMismatch):
        hub_weights(wanted, [tmp_path])


def test_another_file_with_a_digest_of_its_own_is_refused_once_pinned(tmp_path: Path) -> None:
    other = b"other weights!!"
    put(tmp_path, other, blob=hashlib.sha256(other).hexdigest())
    with pytest.raises(DigestMismatch, match=SHA256):
        hub_weights(BY_DIGEST, [tmp_path])


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    put(tmp_path).resolve().unlink()
    with pytest.raises(ArtifactMissing):
        hub_weights(BY_REVISION, [tmp_path])


def test_another_revision_is_not_taken(tmp_path: Path) -> None:
    put(tmp_path, revision="a" * 40)
    with pytest.raises(ArtifactMissing, match="c8d2922"):
        hub_weights(BY_REVISION, [tmp_path])


def test_a_shortened_revision_that_fits_two_commits_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    put(tmp_path, revision="c8d2922" + "1" * 33)
    with pytest.raises(ArtifactError, match=r"fits 2 commits.*c8d29220000.*c8d29221111"):
        hub_weights(BY_REVISION, [tmp_path])


def test_a_file_that_nothing_vouches_for_is_refused(tmp_path: Path) -> None:
    link = put(tmp_path)
    link.unlink()
    link.write_bytes(DATA)
    with pytest.raises(ArtifactError, match="cannot be verified"):
        hub_weights(BY_REVISION, [tmp_path])


def test_after_a_failed_download_there_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public version went on with random weights when its download failed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "user"))
    with pytest.raises(ArtifactMissing, match=REPOSITORY) as caught:
        open_engine("imagenet100", cache_dir=tmp_path, kind="float32")
    assert "snakemake bootstrap" in caught.value.diagnostics()
    put(tmp_path / "hub", b"", blob=hashlib.sha256(b"").hexdigest())
    with pytest.raises(ModelError, match="does not fit"):
        open_engine("imagenet100", cache_dir=tmp_path, kind="float32")


def test_no_value_of_a_network_comes_from_anywhere_but_the_file(tmp_path: Path) -> None:
    """Even a loader that forgot to be strict would find nothing in the tensors the file lacks."""
    import torch

    from perturbnet.classifier.architecture import build_reference

    with torch.device("meta"):
        network = build_reference(12)
    network.load_state_dict({}, strict=False, assign=True)
    with pytest.raises((NotImplementedError, RuntimeError)):
        network(torch.zeros(1, 3, 96, 96)).sum().item()


def test_an_installation_without_its_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = {"network": {"file": "none.safetensors", "sha256": SHA256, "size": 3}}
    monkeypatch.setattr(weights, "read_pins", lambda _name: pins)
    with pytest.raises(ArtifactMissing, match=r"none\.safetensors"):
        open_engine("reference", cache_dir=tmp_path, kind="float32")


def test_an_unknown_profile(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="imagenet100, reference"):
        find_model("cifar", tmp_path)


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ModelError, match="no CUDA device"):
        open_float32(find_model("reference", tmp_path), "cuda")


def test_everything_that_decides_a_label_is_in_the_models_digest() -> None:
    model = Model("net", REFERENCE, ("a", "b"), Path("w"), "00")
    others = [
        Model("other", REFERENCE, ("a", "b"), Path("w"), "00"),
        Model("net", type(REFERENCE)(97), ("a", "b"), Path("w"), "00"),
        Model("net", REFERENCE, ("b", "a"), Path("w"), "00"),
        Model("net", REFERENCE, ("a", "b"), Path("w"), "01"),
    ]
    assert len({model.digest(), *(other.digest() for other in others)}) == 5
    assert Model("net", REFERENCE, ("a", "b"), Path("elsewhere"), "00").digest() == model.digest()


def test_pins_name_what_they_pin() -> None:
    stated = read_pins("imagenet100.json")["weights"]
    assert PinnedWeights(**stated).repository == REPOSITORY
    assert Pin("x", SHA256, 1).name == "x"


def test_the_production_network_is_timms_efficientnetv2_l() -> None:
    """Built without values: 118.5 million parameters, TensorFlow's padding and batch norm."""
    import torch

    from perturbnet.classifier import architecture

    with torch.device("meta"):
        network = architecture._BUILDERS[architecture.PRODUCTION_NAME](1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == 118_515_272
    assert type(network.conv_stem).__name__ == "Conv2dSame"
    assert "eps=0.001" in str(network.bn1)
    assert "out_features=1000" in str(network.classifier)
