"""`perturb model`: what is compiled, shown and labelled, as a user reads it and as JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from perturbnet.classifier.architecture import build_reference
from perturbnet.classifier.labels import REFERENCE_LABELS
from perturbnet.commands.model import model
from perturbnet.errors import ArtifactMissing
from perturbnet.wire.images import encode_png
from tests.support.classifier.networks import noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float weights, the artefact compiled from them by the command, and two pictures."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_file(build_reference(len(REFERENCE_LABELS)).state_dict(), folder / "weights.safetensors")
    for number in range(2):
        (folder / f"{number}.png").write_bytes(encode_png(noise(number, 50, 70)))
    done = perturb(
        "compile",
        "--profile",
        "reference",
        "--weights",
        str(folder / "weights.safetensors"),
        "--out",
        str(folder / "small.model"),
        "--json",
        str(folder / "compiled.json"),
    )
    assert done.exit_code == 0, done.output
    return folder


def perturb(*words: str) -> Result:
    return CliRunner().invoke(model, words)


def read_json(*words: str) -> Any:
    done = perturb(*words, "--json", "-")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_compiling_names_the_file_by_its_digest(folder: Path) -> None:
    stated = json.loads((folder / "compiled.json").read_text())
    assert stated["sha256"] == hashlib.sha256((folder / "small.model").read_bytes()).hexdigest()
    assert len(stated["golden logits"]) == 3
    note = json.loads((folder / "small.model.json").read_text())
    assert note == {"sha256": stated["sha256"], "golden": stated["golden logits"]}


def test_showing_a_model(folder: Path) -> None:
    shown = read_json("show", str(folder / "small.model"))
    assert shown["name"] == "perturb_efficientnetv2_reference"
    assert shown["labels"] == str(len(REFERENCE_LABELS))
    assert len(shown["layers"]) == 30
    assert all(float(layer["bits"]) <= 53 for layer in shown["layers"])
    assert shown["layers"][0]["shape"] == "3×3×3×16"
    table = perturb("show", str(folder / "small.model"))
    assert shown["sha256"] in table.output
    assert "depthwise" in table.output


def test_engines_print_the_same_digest(folder: Path) -> None:
    pictures = [str(folder / f"{number}.png") for number in range(2)]
    words = ["label", *pictures, "--model", str(folder / "small.model")]
    answers = {kind: read_json(*words, "--engine", kind) for kind in ("float64", "integer")}
    assert {kind: answer.pop("engine") for kind, answer in answers.items()} == {
        "float64": "float64",
        "integer": "integer",
    }
    assert answers["float64"] == answers["integer"]
    rows = answers["integer"]["images"]
    assert [row["image"] for row in rows] == pictures
    assert len({row["logits"] for row in rows}) == 2
    assert all(row["class"] in REFERENCE_LABELS for row in rows)


def test_labelling_prints_a_table(folder: Path) -> None:
    done = perturb("label", str(folder / "0.png"), "--model", str(folder / "small.model"))
    assert done.exit_code == 0
    assert "engine float64" in done.output


def test_a_float_engine_takes_no_artefact(folder: Path) -> None:
    done = perturb(
        "label", str(folder / "0.png"), "--model", str(folder / "small.model"), "--engine", "float32"
    )
    assert done.exit_code == 2
    assert "--model is for the engines float64 and integer" in done.output


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(tmp_path))
    done = perturb("show", "--profile", "imagenet100")
    assert isinstance(done.exception, ArtifactMissing)
    assert "perturb model compile" in done.exception.hint
