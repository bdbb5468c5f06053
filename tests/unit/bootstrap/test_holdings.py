"""A node that holds anything but what its manifest names refuses to start, by name."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from perturbnet.bootstrap import fingerprint, holdings
from perturbnet.bootstrap.fingerprint import row_leaf
from perturbnet.bootstrap.holdings import (
    CheckedSource,
    check_holdings,
    open_manifest,
    require_engine,
    require_pinned,
)
from perturbnet.bootstrap.manifest import Manifest, decode_manifest, read_manifest
from perturbnet.bootstrap.opening import open_held
from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.records import Workplace, leaves_of
from perturbnet.commands.manifest import manifest_schema
from perturbnet.config import load_settings
from perturbnet.errors import ArtifactError, ArtifactMissing, DigestMismatch, RowUnreadable
from perturbnet.wire import canonical_json, messages
from perturbnet.wire.images import pixel_digest
from tests.support.bootstrap.prepared import DIGEST, NAMES, ROWS, UNDECODABLE, file_of, finish, prepare
from tests.support.damage import flip_bit
from tests.support.fakes import BlockEngine, MemorySource

ROOT = Path(__file__).resolve().parents[3]
WIRE = messages.PROTOCOL_VERSION


@pytest.fixture
def plan(tmp_path: Path) -> BootstrapPlan:
    return prepare(tmp_path)


@pytest.fixture
def manifest(plan: BootstrapPlan) -> Manifest:
    return read_manifest(plan.place.manifest)


def test_the_schema_in_the_repository_is_the_classes_own() -> None:
    assert (ROOT / "workflow" / "schemas" / "manifest.schema.json").read_text() == manifest_schema()


def test_it_names_data_model_and_wire_and_nothing_of_this_machine(
    plan: BootstrapPlan, manifest: Manifest
) -> None:
    text = manifest.encode().decode()
    assert manifest.dataset.rows == 3 * ROWS
    assert [row.row for row in manifest.dataset.undecodable] == [UNDECODABLE]
    assert [part.name for part in manifest.dataset.parts] == list(NAMES)
    assert all(part.sha256 and part.size for part in manifest.dataset.parts)
    assert manifest.protocol == WIRE
    assert str(plan.place.cache_dir) not in text
    assert "pillow" not in text
    assert manifest.digest == canonical_json.digest(json.loads(text))


def test_the_data_set_has_a_digest_of_its_own(manifest: Manifest) -> None:
    model = manifest.model.model_copy(update={"artefact": "00" * 32})
    other = manifest.model_copy(update={"model": model})
    fresh = decode_manifest(other.encode(), "other")
    assert fresh.digest != manifest.digest
    assert fresh.dataset_digest == manifest.dataset_digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format="perturb/manifest/2"), "format"),
        (lambda m: m.update(more=1), "more"),
        (lambda m: m["dataset"].update(rows=4), "the parts have not 4 rows together"),
        (lambda m: m["dataset"].update(root="AB" * 32), "dataset.root"),
        (lambda m: m["dataset"]["undecodable"][0].update(row=99), "not among"),
        (lambda m: m["model"].pop("weights"), "model.weights"),
        (lambda m: m["dataset"]["parts"][0].update(rows="5"), "parts.0.rows"),
    ],
)
def test_a_manifest_that_is_not_as_the_schema_says_is_refused(
    manifest: Manifest, change: object, said: str
) -> None:
    stated = json.loads(manifest.encode())
    change(stated)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=said):
        decode_manifest(canonical_json.encode(stated), "here")
    with pytest.raises(ArtifactError, match="here is no manifest"):
        decode_manifest(manifest.encode() + b"\n", "here")


def test_without_a_manifest_the_hint_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing) as caught:
        open_manifest(Workplace(tmp_path, "reference"))
    assert "perturb bootstrap" in caught.value.diagnostics()


def test_a_manifest_of_another_profile_or_wire_is_refused(
    plan: BootstrapPlan, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_manifest(plan.place) == manifest
    other = Workplace(plan.place.cache_dir, "reference")
    other.folder.mkdir()
    other.manifest.write_bytes(manifest.encode())
    with pytest.raises(
        DigestMismatch, match=f"expected reference, wire {WIRE}, got imagenet100, wire {WIRE}"
    ):
        open_manifest(other)
    monkeypatch.setattr(holdings, "PROTOCOL_VERSION", WIRE + 1)
    with pytest.raises(DigestMismatch, match=f"wire {WIRE + 1}, got imagenet100, wire {WIRE}"):
        open_manifest(plan.place)


def test_another_manifest_than_the_pinned_one_is_refused(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins: dict[str, str | None] = {"manifest": None}
    monkeypatch.setattr(holdings, "read_pins", lambda name: pins if name == "imagenet100.json" else {})
    require_pinned(manifest)
    pins["manifest"] = manifest.digest
    require_pinned(manifest)
    pins["manifest"] = "00" * 32
    with pytest.raises(DigestMismatch, match=f"{'00' * 32}, got {manifest.digest}"):
        require_pinned(manifest)


def test_what_is_as_it_was_passes_with_sampled_and_with_all_rows(
    plan: BootstrapPlan, manifest: Manifest
) -> None:
    assert "3 files unchanged" in check_holdings(plan.place, manifest)
    told: list[tuple[int, int]] = []
    said = check_holdings(plan.place, manifest, paranoid=True, progress=lambda *p: told.append(p))
    assert f"3 files hashed, {3 * ROWS} of {3 * ROWS} rows" in said
    assert told[-1] == (3 * ROWS, 3 * ROWS)


def test_a_file_damaged_with_its_date_kept_is_refused(plan: BootstrapPlan, manifest: Manifest) -> None:
    flip_bit(file_of(plan, NAMES[2]), 40)
    with pytest.raises(DigestMismatch, match=NAMES[2].rpartition("/")[2]) as caught:
        check_holdings(plan.place, manifest)
    assert caught.value.exit_code == 3
    assert "perturb bootstrap" in caught.value.diagnostics()


def test_damage_that_no_stat_shows_is_found_by_the_row_or_by_paranoia(
    plan: BootstrapPlan, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that rots: bytes change and the file system knows nothing of it."""
    path = file_of(plan, NAMES[1])
    record = json.loads(plan.place.fingerprint.read_text())
    data = path.read_bytes()
    at = data.index(b"\xff\xd8", data.index(b"\xff\xd8") + 2)  # the second picture: row ROWS + 1
    path.write_bytes(data[:at] + b"\x00" + data[at + 1 :])
    found = path.stat()
    seen = {"ctime_ns": found.st_ctime_ns, "mtime_ns": found.st_mtime_ns, "inode": found.st_ino}
    record["parts"][1]["file"] |= seen
    plan.place.fingerprint.write_text(json.dumps(record))
    check_holdings(plan.place, manifest, draw=lambda _: 0)
    with pytest.raises(DigestMismatch, match=f"row {ROWS + 1} "):
        check_holdings(plan.place, manifest, draw=lambda _: ROWS + 1)
    with pytest.raises(DigestMismatch, match=path.name[:20] if path.is_symlink() else "sha256"):
        check_holdings(plan.place, manifest, paranoid=True)


def test_an_undecodable_row_is_as_good_as_any_when_it_is_sampled(
    plan: BootstrapPlan, manifest: Manifest
) -> None:
    assert "1 of 15 rows decoded" in check_holdings(plan.place, manifest, draw=lambda _: UNDECODABLE)


def test_another_decoder_is_refused_by_name(
    plan: BootstrapPlan, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "decoder_versions", lambda: {"jpeg": "x", "pillow": "0.1"})
    with pytest.raises(DigestMismatch, match=r"its decoder: expected jpeg .*, got jpeg x, pillow 0\.1"):
        check_holdings(plan.place, manifest)


def test_records_of_another_data_set_are_refused(
    plan: BootstrapPlan, manifest: Manifest, tmp_path: Path
) -> None:
    dataset = manifest.dataset.model_copy(update={"root": "00" * 32})
    with pytest.raises(DigestMismatch, match="root " + "00" * 32):
        check_holdings(plan.place, manifest.model_copy(update={"dataset": dataset}))
    leaves_of(plan.place.fingerprint).write_bytes(b"")
    with pytest.raises(DigestMismatch, match="leaves"):
        check_holdings(plan.place, manifest)
    with pytest.raises(ArtifactMissing):
        check_holdings(Workplace(tmp_path / "empty", "imagenet100"), manifest)


def test_another_number_of_rows_than_pinned_makes_no_manifest(plan: BootstrapPlan) -> None:
    assert plan.pins is not None
    pins = json.loads(plan.pins.read_text())
    pins["dataset"]["rows"] = 126_689
    plan.pins.write_text(json.dumps(pins))
    with pytest.raises(Exception, match="15 rows; pinned are 126689"):
        finish(BootstrapPlan(plan.place, plan.pins))


def test_the_model_must_be_the_manifest_s(manifest: Manifest) -> None:
    engine = BlockEngine()
    with pytest.raises(DigestMismatch, match=f"block-means .*expected artefact {DIGEST}, got"):
        require_engine(manifest, engine)
    for name in ("artefact", "network"):
        model = manifest.model.model_copy(update={name: engine.model_digest})
        require_engine(manifest.model_copy(update={"model": model}), engine)


class TestCheckedSource:
    def parts(self, manifest: Manifest) -> tuple[MemorySource, Manifest, bytes]:
        source = MemorySource()
        identity = source.identity
        dataset = manifest.dataset.model_copy(
            update={name: getattr(identity, name) for name in ("repository", "revision", "split", "rows")}
        )
        leaves = b"".join(row_leaf(pixel_digest(source.read(row).pixels)) for row in range(identity.rows))
        return source, Manifest.model_construct(**{**dict(manifest), "dataset": dataset}), leaves

    def test_every_row_is_compared_with_its_leaf(self, manifest: Manifest) -> None:
        source, ours, leaves = self.parts(manifest)
        checked = CheckedSource(source, ours, leaves)
        assert checked.read(3).row == 3
        wrong = CheckedSource(source, ours, leaves[:96] + bytes(32) + leaves[128:])
        with pytest.raises(RowUnreadable, match="row 3 is unreadable: its leaf is"):
            wrong.read(3)
        assert wrong.read(4).row == 4

    def test_its_identity_names_the_manifest_s_data_set(self, manifest: Manifest) -> None:
        source, ours, leaves = self.parts(manifest)
        identity = CheckedSource(source, ours, leaves).identity
        assert identity == replace(source.identity, manifest_digest=ours.dataset_digest)
        assert dataclasses.asdict(identity).keys() >= {"manifest_digest"}

    def test_another_data_set_is_refused(self, manifest: Manifest) -> None:
        with pytest.raises(DigestMismatch, match="the data set"):
            CheckedSource(MemorySource(), manifest, b"")


def test_a_validator_without_a_bootstrap_refuses_to_start(tmp_path: Path) -> None:
    environment = {"PERTURB_PROFILE": "reference", "PERTURB_CACHE_DIR": str(tmp_path)}
    with pytest.raises(ArtifactMissing, match="there is no manifest"):
        open_held(load_settings(environment).settings)
    assert not os.listdir(tmp_path)
