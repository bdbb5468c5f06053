"""`perturb certify` and `perturb certificate`: what they print, write and end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.cli import main
from perturbnet.commands.certify import certificate, certify
from perturbnet.errors import NoteError, OutputError
from perturbnet.ledger.journal import Journal
from perturbnet.runtime.artifacts import write_durably
from perturbnet.transparency.log_key import KEY_FILE
from perturbnet.validator.certificates import FOLDER
from tests.support.auditing.honest import LOG_KEY, Honest, live
from tests.support.auditing.published import anchor_of, publish, write_anchors


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return live(tmp_path_factory.mktemp("honest"), rounds=3)


@pytest.fixture
def state(honest: Honest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A validator's state folder that is not in use, with the log's key."""
    folder = tmp_path / "state"
    folder.mkdir()
    write_durably(folder / KEY_FILE, LOG_KEY.encode().encode())
    journal = Journal(folder)
    journal.append(*honest.leaves())
    journal.close()
    monkeypatch.setenv("PERTURB_STATE_DIR", str(folder))
    return folder


def run(*arguments: str | Path) -> Result:
    command = certify if arguments[0] == "certify" else certificate
    return CliRunner().invoke(command, [str(item) for item in arguments[1:]])


def test_certify_show_and_verify(honest: Honest, state: Path, tmp_path: Path) -> None:
    bundle, file, card = tmp_path / "bundle", tmp_path / "c.json", tmp_path / "card.json"
    publish(honest.leaves(), bundle, honest.blobs.folder)
    done = run("certify", bundle, "--out", file, "--cyclonedx", card)
    assert done.exit_code == 0, done.output
    assert f"Recorded as leaf {len(honest.entries)}" in done.output
    assert json.loads(card.read_text())["bomFormat"] == "CycloneDX"
    shown = run("certificate", "show", file, "--json", "-")
    assert json.loads(shown.output)["_type"] == "https://in-toto.io/Statement/v1"

    early = run("certificate", "verify", file, "--bundle", bundle)
    assert early.exit_code == 1
    assert "no leaf from" in early.output
    journal = Journal(state)
    leaves = [entry.leaf for entry in journal.store.entries()]
    journal.close()
    publish(leaves, bundle, honest.blobs.folder)
    anchors = write_anchors(tmp_path / "anchors.json", anchor_of(leaves))
    command = ("certificate", "verify", file, "--bundle", bundle, "--anchors", anchors, "--netuid", "1")
    whole = run(*command, "--json", "-")
    assert (whole.exit_code, json.loads(whole.output)["status"]) == (0, "verified"), whole.output
    other = run(*command, "--model", "00" * 32)
    assert other.exit_code == 1
    assert other.output.endswith("REFUSED\n")


def test_a_ledger_in_use_is_asked_through_its_folder(honest: Honest, state: Path, tmp_path: Path) -> None:
    bundle, file = tmp_path / "bundle", tmp_path / "c.json"
    publish(honest.leaves(), bundle, honest.blobs.folder)
    journal = Journal(state)
    done = run("certify", bundle, "--out", file)
    journal.close()
    assert done.exit_code == 0, done.output
    assert "Handed to the running validator" in done.output
    assert len(list((state / FOLDER).glob("*.json"))) == 1


def test_without_the_key_nobody_certifies(honest: Honest, state: Path, tmp_path: Path) -> None:
    (state / KEY_FILE).unlink()
    done = run("certify", tmp_path, "--out", tmp_path / "c.json")
    assert isinstance(done.exception, NoteError)
    assert "to sign with" in done.exception.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("certificate", "verify", tmp_path / "none.json")
    assert isinstance(done.exception, OutputError)
    assert "none.json" in done.exception.message
    assert {"certify", "certificate"} <= set(main.commands)
