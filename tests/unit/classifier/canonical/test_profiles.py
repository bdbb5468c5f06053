"""Which file a profile's engine reads, and what is refused: other bytes, unproven sums, wrong arithmetic."""

from __future__ import annotations

import hashlib
import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from perturbnet.classifier import open_engine, open_oracle
from perturbnet.classifier.canonical import profiles, self_test
from perturbnet.classifier.canonical.artefact import Artefact, decode_artefact, read_artefact
from perturbnet.classifier.canonical.profiles import (
    ModelPin,
    build_engine,
    cached_path,
    compile_profile,
    find_artefact,
    note_of,
    open_canonical,
    pack,
    read_note,
    store_artefact,
    unpack,
)
from perturbnet.classifier.canonical.self_test import digest_golden, golden_images, require_golden
from perturbnet.errors import ArtifactMissing, ConfigError, DigestMismatch, ModelError
from tests.support.classifier.networks import draw_artefact, draw_network, noise


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return draw_artefact()


@pytest.fixture(scope="module")
def packed(artefact: Artefact) -> tuple[bytes, ModelPin]:
    data = artefact.encode()
    digest = hashlib.sha256(data).hexdigest()
    return pack(data), ModelPin(digest, tuple(digest_golden(build_engine(artefact, digest))))


@pytest.fixture
def shipped(packed: tuple[bytes, ModelPin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPin:
    """A small model in the place of the package's."""
    data, pin = packed
    file = tmp_path / "shipped.xz"
    file.write_bytes(data)
    monkeypatch.setattr(profiles, "SHIPPED", str(file))
    monkeypatch.setattr(profiles, "_read_pin", lambda name: pin if name == "reference.json" else None)
    return pin


@pytest.mark.parametrize("kind", ["float64", "integer"])
def test_the_shipped_model_opens(shipped: ModelPin, kind: str, tmp_path: Path) -> None:
    engine = open_engine("reference", cache_dir=tmp_path, device="cpu", kind=kind)
    assert (engine.name, engine.model_digest) == (kind, shipped.sha256)
    assert tuple(digest_golden(engine)) == shipped.golden


def test_attacks_search_on_the_network_they_are_judged_by(shipped: ModelPin, tmp_path: Path) -> None:
    oracle = open_oracle("reference", cache_dir=tmp_path, device="cpu", kind="float64")
    engine = open_canonical("reference", cache_dir=tmp_path, device="cpu")
    image = noise(3, 40, 50)
    logits = oracle.logits(image[None])[0]
    assert np.abs(logits - engine.logits(image)).max() < 1e-3
    margins, gradient = oracle.margin_grad(image[None], np.array([int(logits.argmax())]))
    assert margins[0] == pytest.approx(float(logits.max() - np.sort(logits)[-2]), abs=1e-4)
    assert gradient.shape == (1, 40, 50, 3)
    assert np.abs(gradient).max() > 0


def test_a_damaged_model_is_refused(shipped: ModelPin, artefact: Artefact, tmp_path: Path) -> None:
    other = replace(artefact, labels=(*artefact.labels[1:], "other"))
    Path(profiles.SHIPPED).write_bytes(lzma.compress(other.encode(), preset=0))
    with pytest.raises(DigestMismatch):
        open_canonical("reference", cache_dir=tmp_path)
    Path(profiles.SHIPPED).unlink()
    with pytest.raises(ArtifactMissing, match="does not exist"):
        open_canonical("reference", cache_dir=tmp_path)


def test_a_machine_that_computes_wrongly_does_not_attest(
    shipped: ModelPin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ModelPin(shipped.sha256, (shipped.golden[0], "00" * 32, shipped.golden[2]))
    monkeypatch.setattr(profiles, "_read_pin", lambda _name: wrong)
    with pytest.raises(ModelError, match="refuses to attest: golden image 1"):
        open_canonical("reference", cache_dir=tmp_path, device="cpu")


def test_an_unproven_model_does_not_open(artefact: Artefact) -> None:
    layers = [replace(artefact.layers[0], bias=np.full(8, np.nan)), *artefact.layers[1:]]
    with pytest.raises(ModelError, match="not finite"):
        build_engine(replace(artefact, layers=tuple(layers)), "00")


def test_the_production_model_is_compiled_once_into_the_cache(artefact: Artefact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing) as missing:
        open_canonical("imagenet100", cache_dir=tmp_path)
    assert "perturb model compile --profile imagenet100" in missing.value.hint
    path = cached_path("imagenet100", tmp_path)
    pin = store_artefact(artefact, path)
    assert read_note(path) == pin
    found, again = find_artefact("imagenet100", tmp_path)
    assert (found.encode(), again) == (artefact.encode(), pin)
    assert open_canonical("imagenet100", cache_dir=tmp_path, device="cpu").model_digest == pin.sha256
    path.unlink()
    with pytest.raises(ArtifactMissing, match="does not exist"):
        open_canonical("imagenet100", cache_dir=tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": "00"}', '{"sha256": "00", "golden": 1}'])
def test_a_malformed_note_is_refused(text: str, tmp_path: Path) -> None:
    note_of(tmp_path / "x.model").write_text(text)
    with pytest.raises(ModelError, match="not a model's note"):
        read_note(tmp_path / "x.model")


def test_a_pin_wins_over_the_note(
    artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_artefact(artefact, cached_path("imagenet100", tmp_path))
    monkeypatch.setattr(profiles, "_read_pin", lambda _name: ModelPin("00" * 32, ()))
    with pytest.raises(DigestMismatch):
        find_artefact("imagenet100", tmp_path)


def test_profiles_and_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="imagenet100, reference"):
        find_artefact("cifar", tmp_path)
    with pytest.raises(ConfigError, match="float64, integer, float32, float64-plain"):
        open_engine("reference", cache_dir=tmp_path, kind="bfloat16")
    with pytest.raises(ConfigError, match="float64, integer, float32, float64-plain"):
        open_oracle("reference", cache_dir=tmp_path, kind="bfloat16")
    with pytest.raises(ConfigError, match="torchvision's file"):
        compile_profile("torchvision", cache_dir=tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(dict(draw_network().state_dict()), file)
    with pytest.raises(ModelError, match="does not fit"):
        compile_profile("reference", cache_dir=tmp_path, weights=file)
    with pytest.raises(ArtifactMissing, match="do not exist"):
        compile_profile("reference", cache_dir=tmp_path, weights=tmp_path / "none")


def test_packing_is_undone_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 64
    packed = pack(data)
    assert unpack(packed, "x") == data
    with pytest.raises(ModelError, match="cut short"):
        unpack(packed[:-9], "x")
    with pytest.raises(ModelError, match="cannot be unpacked"):
        unpack(b"no xz at all", "x")
    monkeypatch.setattr(profiles, "_MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="more than 1000"):
        unpack(packed, "x")


def test_golden_images_are_pinned() -> None:
    images = golden_images()
    assert [image.shape for image in images] == [(120, 150, 3), (211, 131, 3), (61, 47, 3)]
    found = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in images]
    assert found == ["6604c204244488e4", "aa013e78e5e8969a", "4e1aeb5e5e981040"]


def test_a_self_test_names_the_engine(artefact: Artefact) -> None:
    engine = build_engine(artefact, "00", integer=True)
    require_golden(engine, digest_golden(engine))
    with pytest.raises(ModelError, match="integer engine refuses to attest"):
        require_golden(engine, ["00"] * len(self_test.golden_images()))


def header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same file with another header, padded to its old length."""
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    change(entries)
    text = json.dumps(entries, separators=(",", ":")).encode()
    assert len(text) <= length
    return data[:8] + text.ljust(length) + data[8 + length :]


MALFORMED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "too short"),
    "no header": (lambda data: data[:8], "header of"),
    "long header": (lambda data: struct.pack("<Q", 2**40) + data[8:], "header of"),
    "no json": (lambda data: data[:8] + b"x" + data[9:], "not a readable model"),
    "cut": (lambda data: data[:-1], "do not fit"),
    "format": (lambda data: data.replace(b"perturb-model-1", b"perturb-model-2"), "not of format"),
    "offsets": (lambda data: header(data, lambda h: h["silu"].update(data_offsets=[8, 0])), "do not fit"),
    "unaligned": (
        lambda data: header(data, lambda h: h["program"].update(shape=[1], data_offsets=[4, 12])),
        "not aligned",
    ),
    "type": (lambda data: header(data, lambda h: h["silu"].update(dtype="F16")), "not a readable model"),
    "negative": (lambda data: header(data, lambda h: h["silu"].update(shape=[-1, 1])), "do not fit"),
    "missing": (lambda data: header(data, lambda h: h.pop("silu")), "missing or malformed"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(name: str, artefact: Artefact, tmp_path: Path) -> None:
    spoil, message = MALFORMED[name]
    data = spoil(artefact.encode())
    with pytest.raises(ModelError, match=message):
        decode_artefact(np.frombuffer(data, dtype=np.uint8), "this")
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_artefact(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="does not exist"):
        read_artefact(tmp_path / "none")
