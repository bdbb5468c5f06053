"""The auditor's C program against the Python engine: the same index, label and logits; and hostile files.

What is compared comes from one artefact and PNG files alone. The reference network here has seeded weights
and statistics of a few pictures, so that the test needs no shipped model; two of its channels are made so
small that their biases cap the activations' exponents.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from perturbnet.classifier.architecture import build_reference
from perturbnet.classifier.canonical.artefact import Artefact, read_artefact
from perturbnet.classifier.canonical.compiler import compile_network
from perturbnet.classifier.canonical.engine import CanonicalEngine
from perturbnet.classifier.canonical.obligations import LEAST_CAP, cap_of_bias
from perturbnet.classifier.canonical.tables import sigmoid_table, silu_table
from perturbnet.classifier.engine import prepare
from perturbnet.classifier.preprocessing import PRODUCTION, REFERENCE, Preprocessing
from perturbnet.datasets.reference import load_photographs
from perturbnet.datasets.rendering import CLASSES, render
from perturbnet.errors import ImageError, Reject
from perturbnet.wire.images import Pixels, decode_png, encode_png, pixel_digest
from tests.integration.crafted_pngs import crafted_pngs
from tests.integration.damaged_artefacts import damaged_artefacts

PROGRAM = Path(__file__).parents[2] / "perturb_label"
PNG_SUITE = Path(__file__).parents[1] / "golden" / "png"
REFUSED_MODEL = 3

pytestmark = pytest.mark.needs("cc", "make")


@dataclass(frozen=True)
class Model:
    path: Path
    artefact: Artefact
    engine: CanonicalEngine


def build(folder: Path, *settings: str, target: str = "all") -> Path:
    command = ["make", "-s", "-C", str(PROGRAM), f"BUILD={folder}", *settings, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # not one warning either
    return folder / ("perturb_label_checked" if target == "sanitize" else "perturb_label")


def run(*command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == status, (done.returncode, done.stderr[-2000:])
    assert "Sanitizer" not in done.stderr
    assert "runtime error" not in done.stderr
    return done


def answers(*command: str | Path, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*command, status=status).stdout.splitlines()]


def settle_norms(network: nn.Module, images: Sequence[Pixels], preprocessing: Preprocessing) -> None:
    """Set the statistics of every batch norm on a few pictures, so that activations are realistic."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # a plain mean
    batch = torch.cat(
        [prepare(torch.tensor(np.array(image))[None].float(), preprocessing) for image in images]
    )
    network.train()
    with torch.inference_mode():
        network(batch)
    network.eval()


def store(folder: Path, network: nn.Module, labels: tuple[str, ...], size: int) -> Model:
    path = folder / "model"
    with path.open("wb") as file:
        file.writelines(compile_network(network, name="a test's", labels=labels, size=size).pieces())
    artefact, digest = read_artefact(path)
    return Model(path, artefact, CanonicalEngine(artefact, digest))


def reference_pictures(count: int) -> list[Pixels]:
    photographs = load_photographs()
    return [render("test", row, photographs)[0] for row in range(count)]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With address and undefined-behaviour checks, and every assertion."""
    return build(tmp_path_factory.mktemp("checked"), target="sanitize")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(3)
    network = build_reference(len(CLASSES))
    settle_norms(network, reference_pictures(8), REFERENCE)
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.bias.normal_(0.0, 0.2)
                norm.weight[:2] = 1e-12
    return store(tmp_path_factory.mktemp("model"), network, CLASSES, REFERENCE.size)


def hostile_pictures() -> dict[str, Pixels]:
    draw = np.random.default_rng(11)
    y, x = np.mgrid[0:96, 0:96]

    def grey(levels: NDArray[Any]) -> Pixels:
        return np.repeat((255 * levels).astype(np.uint8)[:, :, None], 3, axis=2)

    def noise(height: int, width: int) -> Pixels:
        return draw.integers(0, 256, (height, width, 3), dtype=np.uint8)

    return {
        "black": np.zeros((96, 96, 3), np.uint8),
        "white": np.full((96, 96, 3), 255, np.uint8),
        "middle": np.full((120, 90, 3), 127, np.uint8),
        "wide black": np.zeros((33, 500, 3), np.uint8),
        "high white": np.full((500, 33, 3), 255, np.uint8),
        "checkerboard": grey(x + y & 1),
        "rows": grey(y & 1),
        "columns": grey(x & 1),
        "rows, halved": np.tile(grey(y & 1), (2, 3, 1)),
        "noise": noise(96, 96),
        "wide noise": noise(33, 500),
        "high noise": noise(700, 2),
        "one row": noise(1, 300),
        "one pixel": noise(1, 1),
        "large noise": noise(1201, 803),
        "two levels": draw.integers(0, 2, (128, 128, 3), dtype=np.uint8) * np.uint8(255),
    }


@pytest.fixture(scope="module")
def pictures() -> dict[str, Pixels]:
    return {f"reference {i}": pixels for i, pixels in enumerate(reference_pictures(32))} | hostile_pictures()


def require_equal(
    command: Sequence[str | Path], model: Model, pictures: Mapping[str, Pixels], to: Path
) -> None:
    files = [to / f"{number}.png" for number in range(len(pictures))]
    for file, pixels in zip(files, pictures.values(), strict=True):
        file.write_bytes(encode_png(pixels))
    found = answers(*command, "--json", model.path, *files)
    expected = model.engine.classify(list(pictures.values()))
    for (name, pixels), theirs, ours in zip(pictures.items(), found, expected, strict=True):
        assert theirs["logits_digest"] == ours.logits_digest, name
        assert (theirs["index"], theirs["label"]) == (ours.index, ours.text), name
        assert theirs["pixels"] == pixel_digest(pixels), name
        assert theirs["model"] == model.engine.model_digest


def test_its_tables_are_those_of_the_specification(native: Path) -> None:
    found = dict(line.split("\t") for line in run(native, "--tables").stdout.splitlines())
    assert found == {
        "silu": hashlib.sha256(silu_table().tobytes()).hexdigest(),
        "sigmoid": hashlib.sha256(sigmoid_table().tobytes()).hexdigest(),
    }


def test_a_cap_binds_in_this_model(model: Model) -> None:
    caps = [cap_of_bias(layer) for layer in model.artefact.layers]
    assert min(cap for cap in caps if cap is not None) == LEAST_CAP


def test_same_bits_natively(native: Path, model: Model, pictures: dict[str, Pixels], tmp_path: Path) -> None:
    require_equal([native], model, pictures, tmp_path)


def test_same_bits_without_vector_extensions(
    model: Model, pictures: dict[str, Pixels], tmp_path: Path
) -> None:
    plain = build(tmp_path / "plain", "MACHINE=", "CFLAGS=-O1")
    require_equal([plain], model, hostile_pictures(), tmp_path)


def test_no_assertion_fails_and_nothing_is_undefined(
    checked: Path, model: Model, pictures: dict[str, Pixels], tmp_path: Path
) -> None:
    chosen = {name: pictures[name] for name in ("reference 0", "white", "wide noise", "rows", "one pixel")}
    require_equal([checked], model, chosen, tmp_path)


@pytest.mark.slow
@pytest.mark.needs("aarch64-linux-gnu-gcc", "qemu-aarch64-static")
def test_same_bits_on_aarch64(model: Model, pictures: dict[str, Pixels], tmp_path: Path) -> None:
    program = build(tmp_path / "arm", "CC=aarch64-linux-gnu-gcc", "MACHINE=", "STATIC=-static")
    require_equal(["qemu-aarch64-static", program], model, pictures, tmp_path)


@pytest.mark.slow
def test_same_bits_for_the_production_network(native: Path, tmp_path: Path) -> None:
    import timm

    photographs = [pixels for pixels in load_photographs() if pixels.ndim == 3][:4]
    torch.manual_seed(1)
    network = timm.create_model("tf_efficientnetv2_l", pretrained=False)
    settle_norms(network, photographs, PRODUCTION)
    large = store(tmp_path, network, tuple(str(index) for index in range(1000)), PRODUCTION.size)
    require_equal([native], large, {"photograph": photographs[0]}, tmp_path)


def test_logits_can_be_read_back(
    native: Path, model: Model, pictures: dict[str, Pixels], tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encode_png(pictures["noise"]))
    (found,) = answers(native, "--json", "--logits", model.path, file)
    logits = np.array([float.fromhex(text) for text in found["logits"]])
    assert logits.tobytes() == (model.engine.logits(pictures["noise"]) + 0.0).tobytes()


def test_ties_go_to_the_lowest_index(
    native: Path, model: Model, pictures: dict[str, Pixels], tmp_path: Path
) -> None:
    last = model.artefact.layers[-1]
    flat = replace(last, weights=np.zeros_like(last.weights), bias=np.zeros_like(last.bias))
    tied = replace(model.artefact, layers=(*model.artefact.layers[:-1], flat))
    (tmp_path / "tied").write_bytes(tied.encode())
    (tmp_path / "a.png").write_bytes(encode_png(pictures["noise"]))
    (found,) = answers(native, "--json", tmp_path / "tied", tmp_path / "a.png")
    assert found["index"] == 0
    assert found["logits_digest"] == hashlib.sha256(bytes(8 * len(CLASSES))).hexdigest()


# Hostile artefacts


def refuse(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run what ends with a refusal: the program leaves by exit(), with what it holds."""
    kept = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=kept)


def test_a_damaged_artefact_is_refused(checked: Path, model: Model, tmp_path: Path) -> None:
    picture, file = tmp_path / "a.png", tmp_path / "damaged"
    picture.write_bytes(encode_png(np.zeros((20, 20, 3), np.uint8)))
    for name, data in damaged_artefacts(model.artefact).items():
        file.write_bytes(data)
        done = refuse(checked, file, picture)
        assert (done.returncode, done.stdout) == (REFUSED_MODEL, ""), (name, done.stderr[-1000:])
        assert len(done.stderr.splitlines()) == 1, name  # a message, not a sanitizer's report


def test_a_header_with_any_byte_changed_never_crashes(checked: Path, model: Model, tmp_path: Path) -> None:
    draw = random.Random(5)
    whole, file = bytearray(model.artefact.encode()), tmp_path / "damaged"
    (length,) = struct.unpack_from("<Q", whole)
    for _ in range(40):
        at, mask = draw.randrange(8 + length), 1 << draw.randrange(8)
        whole[at] ^= mask
        file.write_bytes(whole)
        whole[at] ^= mask
        done = refuse(checked, file, tmp_path / "none.png")
        assert done.returncode == REFUSED_MODEL, (at, mask, done.stderr[-1000:])


def test_usage_and_missing_files(native: Path, model: Model, tmp_path: Path) -> None:
    assert "usage" in run(native, status=2).stderr
    assert "usage" in run(native, "--nonsense", status=2).stderr
    assert "missing" in run(native, tmp_path / "missing", tmp_path / "a.png", status=2).stderr
    assert "missing" in run(native, model.path, tmp_path / "missing", status=2).stderr
    run(native, model.path, tmp_path, status=2)  # a folder


# Hostile PNGs: the code is the Python walk's, the pixels too


def expected_code(data: bytes) -> str:
    try:
        return pixel_digest(decode_png(data))
    except ImageError as error:
        return error.reject.value


def test_every_png_fault_has_the_code_of_the_python_walk(checked: Path, model: Model, tmp_path: Path) -> None:
    crafted = crafted_pngs()
    expected = {name: expected_code(data) for name, data in crafted.items()}
    assert {code[4:] for code in expected.values() if code.startswith("png_")} == {
        "signature",
        "header",
        "size",
        "chunk",
        "data",
        "bomb",
        "trailing",
    }
    one_each = {code: name for name, code in expected.items()}  # each valid image once: it costs a network
    names = [name for name, code in expected.items() if code.startswith("png_") or one_each[code] == name]
    files = [tmp_path / f"{number}.png" for number in range(len(names))]
    for file, name in zip(files, names, strict=True):
        file.write_bytes(crafted[name])
    found = answers(checked, "--json", model.path, *files, status=1)
    assert {name: row.get("reject") or row["pixels"] for name, row in zip(names, found, strict=True)} == {
        name: expected[name] for name in names
    }


def test_every_refused_file_of_the_png_suite_has_the_code_of_the_python_walk(
    checked: Path, model: Model
) -> None:
    """The suite holds every `png_` code, so a code that only one implementation knows is noticed."""
    expected = {path: expected_code(path.read_bytes()) for path in sorted(PNG_SUITE.glob("*.png"))}
    refused = {path: code for path, code in expected.items() if code.startswith("png_")}
    known = {code.value for code in Reject if code.value.startswith("png_")}
    assert set(refused.values()) >= known - {Reject.PNG_SIZE.value}  # which only a challenge's size decides
    found = answers(checked, "--json", model.path, *refused, status=1)
    assert {path.name: row.get("reject") for path, row in zip(refused, found, strict=True)} == {
        path.name: code for path, code in refused.items()
    }


def test_a_wrong_crc_anywhere_is_found(checked: Path, model: Model, tmp_path: Path) -> None:
    whole = encode_png(np.arange(1200, dtype=np.uint32).astype(np.uint8).reshape(20, 20, 3))
    files = []
    for at in range(8, len(whole), 11):
        broken = bytearray(whole)
        broken[at] ^= 4
        files.append(tmp_path / f"{at}.png")
        files[-1].write_bytes(broken)
    found = answers(checked, "--json", model.path, *files, status=1)
    assert [row["reject"] for row in found] == [expected_code(file.read_bytes()) for file in files]
    assert "png_crc" in {row["reject"] for row in found}
