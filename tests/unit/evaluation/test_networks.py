"""Which network a file is: found, named, filled from its file alone; or refused with what to do."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from perturbnet.classifier.labels import REFERENCE_LABELS, imagenet_classes, imagenet_labels
from perturbnet.errors import ArtifactMissing, ConfigError, DatasetError, DigestMismatch, ModelError
from perturbnet.evaluation.networks import Choices, class_finder, describe_network
from perturbnet.evaluation.weights_files import HubAccess, find_weights
from perturbnet.runtime.artifacts import sha256_file
from tests.support.evaluation.pictures import write_weights
from tests.support.hub_server import HubServer

NAMES = ("a", "b", "c", "d")
HUB_NAME = "models--timm--test_resnet.r160_in1k"


def in_a_hub(hub: Path, *, classes: int = 1000, blob: str = "") -> Path:
    """Weights in a hub cache, as huggingface_hub lays them out."""
    stored = write_weights(hub / "new.safetensors", "test_resnet", classes=classes)
    blobs, snapshot = hub / HUB_NAME / "blobs", hub / HUB_NAME / "snapshots" / ("c" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    target = blobs / (blob or sha256_file(stored))
    stored.rename(target)
    (snapshot / "model.safetensors").symlink_to(target)
    (snapshot / "config.json").write_text(json.dumps({"pretrained_cfg": {"crop_pct": 0.5}}))
    return hub


def test_a_file_says_its_own_architecture_and_the_option_wins(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors", "test_resnet")
    assert find_weights(str(path), None, HubAccess()).architecture == "test_resnet"
    assert find_weights(str(path), "resnet18", HubAccess()).architecture == "resnet18"


def test_config_json_beside_the_file_is_read(tmp_path: Path) -> None:
    stated = {
        "architecture": "test_resnet",
        "label_names": list(NAMES),
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "crop_pct": 0.8,
            "mean": [0.1, 0.2, 0.3],
            "label_names": None,
        },
    }
    path = write_weights(tmp_path / "w.safetensors", "test_resnet", config=stated)
    network = describe_network(find_weights(str(path), None, HubAccess()), Choices(), [])
    assert network.labels == NAMES
    form = network.transform
    assert (form.size, form.crop_pct, form.mean, form.kernel) == (
        64,
        "0.8",
        ("0.1", "0.2", "0.3"),
        "bilinear",
    )


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors", "test_vit")
    said = Choices(None, 160, "bilinear", ".75", "squash", (".5", "0.25", "1"), ("1", "1.0", "1"))
    form = describe_network(find_weights(str(path), None, HubAccess()), said, []).transform
    assert (form.size, form.kernel, form.crop_pct, form.resize) == (160, "bilinear", "0.75", "squash")
    assert form.mean == ("0.5", "0.25", "1.0")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"state_dict": 1}))
    with pytest.raises(ConfigError, match="pickles are never opened"):
        find_weights(str(path), "resnet18", HubAccess())
    disguised = path.rename(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        find_weights(str(disguised), "resnet18", HubAccess())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="do not exist"):
        find_weights(str(tmp_path / "none.safetensors"), None, HubAccess())
    with pytest.raises(ConfigError, match="timm:no_such_network"):
        find_weights("timm:no_such_network", None, HubAccess())
    with pytest.raises(ArtifactMissing, match=r"timm/test_resnet\.r160_in1k are in no hub cache") as caught:
        find_weights("timm:test_resnet", None, HubAccess([tmp_path]))
    assert "--fetch" in caught.value.hint


def test_a_file_without_an_architecture_asks_for_it(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(4, 4)}, tmp_path / "w.safetensors")
    weights = find_weights(str(tmp_path / "w.safetensors"), None, HubAccess())
    with pytest.raises(ConfigError, match="--arch"):
        describe_network(weights, Choices(), [])
    named = find_weights(str(tmp_path / "w.safetensors"), "nonsense", HubAccess())
    with pytest.raises(ConfigError, match="nonsense"):
        describe_network(named, Choices(), [])


def test_a_hub_cache_is_verified_and_gives_imagenets_names(tmp_path: Path) -> None:
    weights = find_weights(
        "timm:test_resnet", None, HubAccess([tmp_path / "empty", in_a_hub(tmp_path / "hub")])
    )
    network = describe_network(weights, Choices(), [])
    assert (weights.origin, network.transform.crop_pct) == ("timm/test_resnet.r160_in1k", "0.5")
    assert network.labels == imagenet_labels()
    network.load()


def test_a_hub_file_that_is_not_its_blob_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch):
        find_weights("timm:test_resnet", None, HubAccess([in_a_hub(tmp_path, blob="0" * 64)]))


def test_what_no_cache_has_is_fetched_from_the_hub_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    data = write_weights(tmp_path / "w.safetensors", "test_resnet", classes=1000).read_bytes()
    config = json.dumps({"architecture": "test_resnet", "pretrained_cfg": {"crop_pct": 0.5}}).encode()
    told: list[tuple[int, int]] = []
    with HubServer() as hub:
        hub.add("model", "timm/test_resnet.r160_in1k", {"model.safetensors": data, "config.json": config})
        access = HubAccess(
            [tmp_path / "hub"], fetch=True, endpoint=hub.endpoint, progress=lambda *at: told.append(at)
        )
        weights = find_weights("timm:test_resnet", None, access)
        assert find_weights("timm:test_resnet", None, access) == weights
        assert hub.count("store", "model.safetensors") == 1
    assert weights.path.read_bytes() == data
    assert weights.config["pretrained_cfg"] == {"crop_pct": 0.5}
    assert (len(data), len(data)) in told
    offline = HubAccess([tmp_path / "hub"])
    assert find_weights("timm:test_resnet", None, offline).sha256 == weights.sha256


def test_every_tensor_comes_from_the_file(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors", "test_vit")
    loaded = describe_network(find_weights(str(path), None, HubAccess()), Choices(), []).load()
    torch.manual_seed(1)
    expected = timm.create_model("test_vit", num_classes=4).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("change", ["missing", "reshaped", "added"])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: str) -> None:
    state: dict[str, Any] = dict(timm.create_model("test_resnet", num_classes=4).state_dict())
    if change == "missing":
        del state["conv1.0.weight" if "conv1.0.weight" in state else next(iter(state))]
    elif change == "reshaped":
        state[next(iter(state))] = torch.zeros(1)
    else:
        state["more"] = torch.zeros(1)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "w.safetensors")
    network = describe_network(
        find_weights(str(tmp_path / "w.safetensors"), "test_resnet", HubAccess()), Choices(), []
    )
    with pytest.raises(ModelError, match="does not fit test_resnet"):
        network.load()


def test_another_head_is_refused(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors", "test_resnet")
    with pytest.raises(ModelError, match=r"no tensor head\.weight"):
        describe_network(find_weights(str(path), "test_vit", HubAccess()), Choices(), [])


def test_the_names_of_classes(tmp_path: Path) -> None:
    weights = find_weights(str(write_weights(tmp_path / "w.safetensors", "test_resnet")), None, HubAccess())

    def labels(text: str | None, folders: tuple[str, ...] = ()) -> tuple[str, ...]:
        return describe_network(weights, Choices(labels=text), folders).labels

    assert labels(None) == ("0", "1", "2", "3")
    assert labels("folders", ("d", "a", "c", "b")) == NAMES
    (tmp_path / "lines.txt").write_text("a\nb\n\n c \nd\n")
    (tmp_path / "list.json").write_text(json.dumps(NAMES))
    (tmp_path / "object.json").write_text(json.dumps({str(index): name for index, name in enumerate(NAMES)}))
    for name in ("lines.txt", "list.json", "object.json"):
        assert labels(str(tmp_path / name)) == NAMES
    with pytest.raises(ModelError, match="names 3 classes; expected 4"):
        labels("folders", NAMES[:3])
    (tmp_path / "bad.json").write_text(json.dumps({"0": "a", "2": "c"}))
    with pytest.raises(ModelError, match="is no list of classes"):
        labels(str(tmp_path / "bad.json"))
    (tmp_path / "control.json").write_text(json.dumps(["a", "b", "c", "d\x00"]))
    with pytest.raises(ModelError, match="printable"):
        labels(str(tmp_path / "control.json"))
    with pytest.raises(ArtifactMissing, match="cannot be read"):
        labels(str(tmp_path / "none.txt"))


def test_a_folder_is_its_text_or_its_synset() -> None:
    assert class_finder(REFERENCE_LABELS)("heart") == ("heart", REFERENCE_LABELS.index("heart"))
    known = imagenet_classes()[7]
    assert class_finder(imagenet_labels())(known.synset) == (known.text, 7)
    with pytest.raises(DatasetError, match="'n0' is no class"):
        class_finder(REFERENCE_LABELS)("n0")
