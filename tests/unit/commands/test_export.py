"""`perturb export` from the command line: exit codes, what it says, parts, versions, verification."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.adversarial_dataset.layout import MANIFEST, NOTE
from perturbnet.cli import main
from tests.support.adversarial_dataset.logs import tree
from tests.support.auditing.honest import LOG_KEY, Honest, live, tampered
from tests.support.auditing.published import OTHER_KEY, publish, publish_honest


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """A log of three rounds."""
    return live(tmp_path_factory.mktemp("honest"), rounds=3)


@pytest.fixture
def bundle(honest: Honest, tmp_path: Path) -> Path:
    return publish_honest(honest, tmp_path / "log")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The operator's log.key."""
    (tmp_path / "log.key").write_text(f"{LOG_KEY.encode()}\n")
    return tmp_path / "log.key"


def perturb(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *(str(argument) for argument in arguments)])


def test_it_says_what_it_wrote_and_verifies_it(bundle: Path, key: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = perturb("dataset", bundle, out, "--key", key)
    assert done.exit_code == 0, done.output
    assert "3 rounds, 15 attempts on 3 images" in done.output
    assert ", signed" in done.output
    verified = perturb("verify", out, "--bundle", bundle)
    assert verified.exit_code == 0, verified.output
    assert f"signed by {LOG_KEY.verifier().encode()}" in verified.output
    assert "not checked  whether the images can be rebuilt" in verified.output
    by_key = perturb("verify", out, "--key", LOG_KEY.verifier().encode())
    assert by_key.exit_code == 0, by_key.output


def test_json_is_the_manifest(bundle: Path, tmp_path: Path) -> None:
    done = perturb("dataset", bundle, tmp_path / "out", "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / MANIFEST).read_text())


def test_parts_end_in_the_same_bytes(bundle: Path, key: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    perturb("dataset", bundle, whole, "--shard-leaves", 16, "--key", key)
    planned = perturb("plan", bundle, parts, "--shard-leaves", 16, "--done", tmp_path / "planned")
    assert planned.exit_code == 0, planned.output
    assert "ranges to export" in (tmp_path / "planned").read_text()
    early = perturb("finish", parts)
    assert early.exit_code == 1
    assert "run their part" in early.output
    for number in (3, 1, 2):
        assert perturb("part", bundle, parts, "--part", f"{number}/3").exit_code == 0
    finished = perturb("finish", parts, "--key", key)
    assert finished.exit_code == 0, finished.output
    assert tree(parts) == tree(whole)


def test_a_key_of_another_log_signs_nothing(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.key").write_text(f"{OTHER_KEY.encode()}\n")
    done = perturb("dataset", bundle, tmp_path / "out", "--key", tmp_path / "other.key")
    assert done.exit_code == 3
    assert "the log says" in done.output
    assert OTHER_KEY.encode() not in done.output
    assert not (tmp_path / "out" / NOTE).exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["part", "log", "out", "--part", "4/3"], 2, "expected I/K"),
        (["part", "log", "out", "--part", "1/2"], 1, "no export was begun"),
        (["finish", "out"], 1, "perturb export plan BUNDLE"),
        (["verify", "out"], 1, "holds no manifest.json"),
        (["dataset", "nowhere", "out"], 3, "checkpoint is not in"),
        (["dataset", "log", "out", "--mode", "half"], 2, "'delta', 'full'"),
        (["dataset", "log", "out", "--since", "9999999"], 1, "is not in a log of"),
        (["verify", "out", "--key", "nonsense"], 3, "a key has the form"),
    ],
)
def test_what_is_wrong_is_said(
    bundle: Path, tmp_path: Path, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = perturb(*arguments)
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.split())


def test_a_log_that_contradicts_itself_ends_with_3(honest: Honest, tmp_path: Path) -> None:
    lying = publish(tampered(honest, honest.receipts()[0], changed=1), tmp_path / "log", honest.blobs.folder)
    done = perturb("dataset", lying, tmp_path / "out")
    assert done.exit_code == 3
    assert "changed is 1, its delta has" in done.output


def test_since_begins_later(honest: Honest, bundle: Path, tmp_path: Path) -> None:
    from perturbnet.adversarial_dataset.manifest import read_manifest

    perturb("dataset", bundle, tmp_path / "all")
    perturb("dataset", bundle, tmp_path / "late", "--since", honest.receipts()[0])
    assert 0 < read_manifest(tmp_path / "late").rows() < read_manifest(tmp_path / "all").rows()
