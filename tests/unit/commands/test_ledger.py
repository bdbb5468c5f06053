"""`perturb ledger`: what an operator, a reader and a witness see."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from perturbnet.chain import LocalChain
from perturbnet.cli import main
from perturbnet.errors import ChainError
from perturbnet.ledger.journal import Journal
from perturbnet.runtime.clock import SystemClock
from perturbnet.runtime.wallets import create_wallet
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.proofs import parse_proof
from perturbnet.transparency.signing import begin_log
from tests.support.ledger.samples import random_log
from tests.support.s3_server import S3Server


def perturb(*words: str) -> Result:
    return CliRunner().invoke(main, ["ledger", *words])


def facts(*words: str) -> dict[str, Any]:
    done = perturb(*words, "--json", "-")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a log of 300 leaves, named by the environment."""
    wallet = create_wallet(tmp_path / "wallets", "default", "default", seed="ledger")
    folder = tmp_path / "state"
    for name, value in {
        "PERTURB_STATE_DIR": str(folder),
        "WALLET_PATH": str(tmp_path / "wallets"),
        "NETWORK": "local",
        "PERTURB_LOCAL_CHAIN": str(tmp_path / "chain.sqlite"),
    }.items():
        monkeypatch.setenv(name, value)
    journal = Journal(folder)
    begin_log(journal, folder, wallet.hotkey, network="local", netuid=1, clock=SystemClock())
    log = random_log(11, 299)
    shifted = [entry.leaf for entry in log.entries[:3]]  # what needs no place of another leaf
    journal.append(*shifted)
    journal.close()
    return folder


def test_show_replay_and_publish(state: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "bundle")
    here = facts("show")
    assert here["leaves"] == 4
    assert here["anchors"] == "none"
    assert facts("publish", place, "--all")["published"] == 4
    there = facts("show", place)
    assert {name: there[name] for name in ("origin", "hotkey", "key", "leaves", "root")} == {
        name: here[name] for name in ("origin", "hotkey", "key", "leaves", "root")
    }
    own, others = facts("replay"), facts("replay", place)
    assert own["state"] == others["state"]
    assert own["compared"].endswith("the same")
    assert "leaves          4" in perturb("show").output


def test_what_is_too_young_stays_behind(state: Path, tmp_path: Path) -> None:
    chain = LocalChain.create(tmp_path / "chain.sqlite", netuid=1, block_time_ms=0)
    place = str(tmp_path / "bundle")
    done = perturb("publish", place)
    assert (done.exit_code, "no leaf is old enough" in done.output) == (3, True)
    asyncio.run(chain.advance(800))  # the metagraph is of block 100, and two epochs are 720 blocks
    assert facts("publish", place)["published"] == 3
    asyncio.run(chain.advance(20))
    assert facts("publish", place)["published"] == 4


def test_publish_needs_a_chain_or_a_size(state: Path, tmp_path: Path) -> None:
    done = perturb("publish", str(tmp_path / "bundle"))
    assert done.exit_code == ChainError.exit_code
    assert facts("publish", str(tmp_path / "bundle"), "--size", "2")["published"] == 2


def test_a_proof_is_a_file(state: Path, tmp_path: Path) -> None:
    place, file = str(tmp_path / "bundle"), tmp_path / "leaf.tlog-proof"
    facts("publish", place, "--all")
    done = perturb("prove", "2", place, "--out", str(file))
    assert done.exit_code == 0
    assert "leaf 2 (rules)" in done.output
    with open_bundle(place) as bundle:
        leaf = bytes.fromhex(bundle.entry(2).hash)
        assert parse_proof(file.read_bytes()).verify(leaf, [bundle.authority().key]).size == 4


def test_a_witness_cosigns_and_keeps_what_it_saw(state: Path, tmp_path: Path) -> None:
    place, note = str(tmp_path / "bundle"), str(tmp_path / "note")
    facts("publish", place, "--all")
    seen = facts("witness", place, "--out", note)
    assert seen["cosigned"] == 4
    assert len(facts("publish", place, "--cosigned", note, "--all")) == 4
    assert len(facts("show", place)["signed by"]) == 2
    older = str(tmp_path / "older")
    facts("publish", older, "--size", "2")
    done = perturb("witness", older)
    assert done.exit_code == 3
    assert "2 leaves are published, 4 were cosigned" in done.output
    done = perturb("witness", place, "--hotkey", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
    assert done.exit_code == 3
    assert "belongs to" in done.output


def test_a_key_is_rotated(state: Path, tmp_path: Path) -> None:
    before = facts("show")["key"]
    assert perturb("rotate-key").exit_code == 0
    assert facts("show")["key"] != before
    assert facts("publish", str(tmp_path / "bundle"), "--all")["published"] == 5


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURB_STATE_DIR", str(tmp_path))
    for words in (("show",), ("replay",), ("publish", "x", "--all"), ("rotate-key",)):
        done = perturb(*words)
        assert done.exit_code != 0
        assert "there is no ledger in" in done.output or "no hotkey at" in done.output
    done = perturb("show", str(tmp_path))
    assert (done.exit_code, "checkpoint is not in" in done.output) == (3, True)
    done = perturb("witness", str(tmp_path))
    assert "there is no log.key in" in done.output


def test_publish_into_a_bucket(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server("logs") as s3:
        s3.use(monkeypatch)
        done = facts("publish", "s3://logs/mine", "--all")
        assert (done["published"], done["place"]) == (4, "s3://logs/mine")
        assert facts("show", f"{s3.url}/mine")["root"] == done["root"]
        assert facts("replay", f"{s3.url}/mine")["leaves"] == 4
        refused = perturb("publish", "s3://no-such-bucket/mine", "--all")
        assert refused.exit_code == 3
        assert "status 404 NoSuchBucket" in refused.output
        assert "create the bucket first" in refused.output
