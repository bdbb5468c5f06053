"""Nothing is taken for done that is not: every record and every file, deleted or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perturbnet.bootstrap import fingerprint, workflow
from perturbnet.bootstrap.plan import BootstrapPlan, forget_untrue, is_complete, plan_from
from perturbnet.bootstrap.progress import take_standing, telling_rows
from perturbnet.bootstrap.records import leaves_of
from perturbnet.errors import ConfigError, DigestMismatch
from tests.support.bootstrap.prepared import NAMES, ROWS, WEIGHTS, file_of, prepare
from tests.support.damage import flip_bit

Pick = Callable[[BootstrapPlan], Path]


@pytest.fixture
def plan(tmp_path: Path) -> BootstrapPlan:
    return prepare(tmp_path)


RECORDS: dict[str, Pick] = {
    "listing": lambda plan: plan.place.listing,
    "fetched": lambda plan: plan.place.fetched(NAMES[1]),
    "fetched weights": lambda plan: plan.place.fetched(WEIGHTS),
    "part": lambda plan: plan.place.part(NAMES[1]),
    "leaves of a part": lambda plan: leaves_of(plan.place.part(NAMES[1])),
    "fingerprint": lambda plan: plan.place.fingerprint,
    "leaves": lambda plan: leaves_of(plan.place.fingerprint),
    "model": lambda plan: plan.place.model,
    "manifest": lambda plan: plan.place.manifest,
    "page": lambda plan: plan.place.report,
}
FILES: dict[str, Pick] = {
    "shard": lambda plan: file_of(plan, NAMES[1]),
    "artefact": lambda plan: plan.artefact,
}


def test_what_was_prepared_is_complete_and_nothing_is_forgotten(plan: BootstrapPlan) -> None:
    assert is_complete(plan)
    assert forget_untrue(plan) == []
    assert is_complete(plan)


@pytest.mark.parametrize("pick", (RECORDS | FILES).values(), ids=(RECORDS | FILES).keys())
def test_whatever_is_deleted_is_noticed(plan: BootstrapPlan, pick: Pick) -> None:
    pick(plan).unlink()
    assert not is_complete(plan)


@pytest.mark.parametrize("pick", FILES.values(), ids=FILES.keys())
def test_a_file_damaged_with_its_date_kept_is_noticed_and_named(plan: BootstrapPlan, pick: Pick) -> None:
    flip_bit(pick(plan), 5)
    assert not is_complete(plan)
    said = forget_untrue(plan)
    assert any(pick(plan).name in sentence or NAMES[1] in sentence for sentence in said), said


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("name", ["leaves of a part", "leaves", "manifest", "page"])
def test_one_bit_anywhere_in_what_is_derived_is_noticed(plan: BootstrapPlan, name: str, share: float) -> None:
    path = RECORDS[name](plan)
    flip_bit(path, int(share * path.stat().st_size))
    assert not is_complete(plan)
    forget_untrue(plan)
    record = path if path.suffix != ".leaves" else path.with_suffix(".json")
    assert not record.exists()


@pytest.mark.parametrize("name", sorted(RECORDS))
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"parts": [1]}'])
def test_a_record_that_is_something_else_is_forgotten(plan: BootstrapPlan, name: str, text: str) -> None:
    RECORDS[name](plan).write_text(text)
    assert not is_complete(plan)
    assert forget_untrue(plan)


def test_with_a_damaged_shard_goes_what_says_that_it_is_in_place_and_no_other(plan: BootstrapPlan) -> None:
    flip_bit(file_of(plan, NAMES[1]), 50)
    forget_untrue(plan)
    present = [plan.place.fetched(name).exists() and plan.place.part(name).exists() for name in NAMES]
    assert present == [True, False, True]
    assert plan.place.fetched(NAMES[1]).exists() is plan.place.part(NAMES[1]).exists() is False


@pytest.mark.parametrize("name", ["fetched", "part", "leaves of a part"])
def test_without_a_part_the_whole_is_made_again(plan: BootstrapPlan, name: str) -> None:
    RECORDS[name](plan).unlink()
    forget_untrue(plan)
    assert not plan.place.fingerprint.exists()


def test_another_decoder_forgets_the_parts_and_keeps_the_files(
    plan: BootstrapPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "decoder_versions", lambda: {"jpeg": "another", "pillow": "0"})
    said = forget_untrue(plan)
    assert not any(plan.place.part(name).exists() for name in NAMES)
    assert all("jpeg another" in sentence for sentence in said[:3])
    assert all(file_of(plan, name).exists() for name in NAMES)


def test_pins_that_change_forget_the_list(plan: BootstrapPlan) -> None:
    assert plan.pins is not None
    pins = json.loads(plan.pins.read_text())
    pins["dataset"]["revision"] = "9" * 40
    plan.pins.write_text(json.dumps(pins))
    changed = BootstrapPlan(plan.place, plan.pins)
    assert not is_complete(changed)
    assert any("9" * 40 in sentence for sentence in forget_untrue(changed))
    assert not plan.place.listing.exists()
    assert not plan.place.fetched(NAMES[0]).exists()


def test_rows_that_rot_without_a_trace_are_refused_by_name(
    plan: BootstrapPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        path = file_of(plan, name)
        data = path.read_bytes()
        path.write_bytes(data.replace(b"\xff\xd8", b"\xff\xd9"))
    monkeypatch.setattr("perturbnet.bootstrap.plan.require_unchanged", lambda *_, **__: None)
    monkeypatch.setattr("perturbnet.bootstrap.holdings.require_unchanged", lambda *_, **__: None)
    with pytest.raises(DigestMismatch, match="row "):
        forget_untrue(plan)


def test_paranoid_hashes_what_looks_unchanged(plan: BootstrapPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_bit(file_of(plan, NAMES[0]), 50)
    record = json.loads(plan.place.part(NAMES[0]).read_text())
    found = file_of(plan, NAMES[0]).stat()
    record["file"] |= {"ctime_ns": found.st_ctime_ns, "inode": found.st_ino, "mtime_ns": found.st_mtime_ns}
    plan.place.part(NAMES[0]).write_text(json.dumps(record))
    assert any(NAMES[0].rpartition("/")[2] in sentence for sentence in forget_untrue(plan, paranoid=True))


def test_the_configuration_wins_over_the_environment(tmp_path: Path) -> None:
    environment = {"PERTURB_PROFILE": "imagenet100", "PERTURB_CACHE_DIR": str(tmp_path)}
    assert plan_from({}, environment).place.profile == "imagenet100"
    chosen = plan_from({"profile": "reference", "pins": None}, environment)
    assert chosen.place.folder == tmp_path / "bootstrap" / "reference"
    assert (chosen.from_hub, chosen.compiles, chosen.weight_names()) == (False, False, [])
    with pytest.raises(ConfigError, match="'other'"):
        plan_from({"profile": "other"}, environment)


@pytest.mark.parametrize("argument", ["-n", "-np", "--dry-run", "--lint", "--report=a", "--summary", "--dag"])
def test_who_only_looks_takes_no_lock_and_forgets_nothing(
    plan: BootstrapPlan, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.setenv("PERTURB_CACHE_DIR", str(plan.place.cache_dir))
    config = {"profile": "imagenet100", "pins": str(plan.pins)}
    plan.place.model.write_text("{}")
    workflow.open_plan(config, main=True, arguments=["bootstrap", argument])
    workflow.open_plan(config, main=True, arguments=["audit"])
    workflow.open_plan(config, main=False, arguments=["bootstrap"])
    assert plan.place.model.exists()
    assert not (plan.place.folder / "lock").exists()
    workflow.open_plan(config, main=True, arguments=["bootstrap"])
    assert not plan.place.model.exists()


def test_how_far_it_is_shows_on_the_disk(plan: BootstrapPlan) -> None:
    standing = take_standing(plan)
    assert (standing.rows_done, standing.rows_total) == (3 * ROWS, 3 * ROWS)
    assert standing.bytes_done == standing.bytes_total > 0
    plan.place.part(NAMES[2]).unlink()
    tell = telling_rows(plan.place.part(NAMES[2]))
    tell(2, ROWS)
    assert take_standing(plan).rows_done == 2 * ROWS + 2
    tell(ROWS, ROWS)
    assert take_standing(plan).rows_done == 2 * ROWS
    file_of(plan, NAMES[0]).unlink()
    assert take_standing(plan).bytes_done < standing.bytes_total
    assert "rows fingerprinted" in str(standing)
