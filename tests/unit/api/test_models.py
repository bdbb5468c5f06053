"""`load_model`, `evaluate` and `audit` from the outside: what they accept, refuse, and leave out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perturbnet
from perturbnet.auditing import opening
from perturbnet.classifier import open_engine
from perturbnet.errors import ArgumentError, ArtifactMissing, BundleMissing, ConfigError, PerturbError
from perturbnet.rules.classification import Engine
from tests.golden.make_demo import FOLDER
from tests.support.evaluation.pictures import smooth, write_folder, write_weights

HOTKEY = (FOLDER / "bundle" / "checkpoint").read_text().splitlines()[0].rsplit("/", 1)[1]
ANCHORS = FOLDER / "anchors.json"


class TestLoadModel:
    def test_a_profile_is_the_exact_engine(self, tmp_path: Path) -> None:
        model = perturbnet.load_model("reference", device="cpu")
        engine: Engine = open_engine("reference", cache_dir=tmp_path, device="cpu")
        judge: Engine = model  # a type checker must agree
        assert judge.classify([smooth()]) == engine.classify([smooth()])
        assert (model.model_digest, model.labels) == (engine.model_digest, engine.labels)
        assert (model.model_name, model.together) == (engine.model_name, engine.together)
        assert model.oracle is model.oracle
        assert model.oracle.logits(smooth()[None]).shape == (1, 10)

    def test_an_image_of_another_type_is_refused(self) -> None:
        model = perturbnet.load_model("reference", device="cpu")
        with pytest.raises(ArgumentError, match=r"images: 'float64 \(9, 9, 3\)' is not allowed"):
            model.classify([np.zeros((9, 9, 3))])  # type: ignore[list-item]

    def test_a_file_of_weights_is_judged_in_float64(self, tmp_path: Path) -> None:
        path = write_weights(tmp_path / "w.safetensors", "test_resnet", config={"input_size": [3, 64, 64]})
        model = perturbnet.load_model(path, device="cpu", cache_dir=tmp_path / "cache")
        assert model.labels == ("0", "1", "2", "3")
        assert model.classify([smooth()])[0].text in model.labels
        assert model.oracle.logits(smooth()[None]).shape == (1, 4)

    @pytest.mark.parametrize(
        ("name", "error", "said"),
        [
            ("nonsense", ArgumentError, "name: 'nonsense' is not allowed; expected reference, imagenet100"),
            ("none.safetensors", ArtifactMissing, "none.safetensors do not exist"),
            ("timm:no_such_network", ConfigError, "'timm:no_such_network' is not allowed"),
            ("imagenet100", ArtifactMissing, "imagenet100.model"),
        ],
    )
    def test_what_there_is_not_is_named(
        self, name: str, error: type[PerturbError], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(error, match=said):
            perturbnet.load_model(name, cache_dir=tmp_path)

    def test_a_profile_has_its_own_architecture(self) -> None:
        with pytest.raises(ArgumentError, match="architecture: 'resnet18' is not allowed"):
            perturbnet.load_model("reference", architecture="resnet18")


class TestEvaluate:
    def test_a_call_that_was_finished_counts_again_by_the_networks_rules(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PERTURB_MIN_SSIM", "0.5")
        images = write_folder(tmp_path / "in", count=1, classes=("0", "1"))
        weights = write_weights(tmp_path / "w.safetensors", "test_resnet", config={"input_size": [3, 64, 64]})
        first, again = (
            perturbnet.evaluate(str(weights), images, out=tmp_path / "out", limit=1, seconds=0.5)
            for _ in range(2)
        )
        assert first.passed
        assert first.statistics.images == 1
        assert first.plan["rules.min_ssim"] == "0.98"
        assert first.files["Report"].is_file()
        assert again.statistics == first.statistics

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"limit": 0}, "limit: 0 is not allowed"),
            ({"seconds": -1}, "seconds: -1 is not allowed"),
            ({"attacks": ["none"]}, "'none' is not allowed"),
            ({"model": "w.pt"}, "'w.pt' is not allowed; expected timm:NAME, reference"),
        ],
    )
    def test_what_is_not_allowed_is_named(self, options: dict[str, Any], said: str, tmp_path: Path) -> None:
        call = {"model": "reference", "images": tmp_path, "out": tmp_path / "out", **options}
        with pytest.raises(PerturbError, match=said):
            perturbnet.evaluate(**call)


class TestAudit:
    def test_a_log_without_data_leaves_out_images(self) -> None:
        report = perturbnet.audit(FOLDER / "bundle", hotkey=HOTKEY, netuid=1, anchors=ANCHORS)
        assert report.passed
        assert (
            report.checked["leaves"] == report.unchecked["leaves whose images and answers were not looked at"]
        )

    @pytest.mark.parametrize(("netuid", "anchors"), [(1, None), (2, ANCHORS)])
    def test_a_finding_is_no_error(self, netuid: int, anchors: Path | None) -> None:
        report = perturbnet.audit(FOLDER / "bundle", hotkey=HOTKEY, netuid=netuid, anchors=anchors)
        assert not report.passed
        assert report.findings[0].sentence()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"hotkey": "5F"}, "hotkey: '5F' is not allowed; expected an ss58 address"),
            ({"hotkey": None}, "hotkey: None is not allowed"),
            ({"netuid": 65536}, "netuid: 65536 is not allowed"),
            ({"netuid": "1"}, "netuid: '1' is not allowed"),
            ({"profile": "other"}, "profile: 'other' is not allowed; expected one of reference, imagenet100"),
            ({"sample": 0}, "sample: 0 is not allowed"),
        ],
    )
    def test_what_is_not_allowed_is_named(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ArgumentError, match=said):
            perturbnet.audit(**{"bundle": FOLDER / "bundle", "hotkey": HOTKEY, "netuid": 1, **options})

    def test_what_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(BundleMissing):
            perturbnet.audit(tmp_path, hotkey=HOTKEY, netuid=1)
        with pytest.raises(PerturbError, match=r"none\.json"):
            perturbnet.audit(FOLDER / "bundle", hotkey=HOTKEY, netuid=1, anchors=tmp_path / "none.json")

    def test_the_chain_is_asked_inside_an_event_loop_too(self) -> None:
        """A notebook has one."""

        async def work() -> int:
            return 7

        async def cell() -> int:
            return opening._wait(work())

        assert asyncio.run(cell()) == opening._wait(work()) == 7
