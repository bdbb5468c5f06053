"""`perturb audit` from the command line: exit codes, parts, receipts; without a data set, for speed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.chain import LocalChain
from perturbnet.cli import main
from perturbnet.errors import Reject
from tests.support.auditing.acknowledgements import signed
from tests.support.auditing.honest import HOTKEY, Honest, live, tampered
from tests.support.auditing.published import anchor_of, prove_fraud, publish, publish_honest, write_anchors
from tests.support.fakes import NETUID, keypair


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """A log of two rounds."""
    return live(tmp_path_factory.mktemp("honest"), rounds=2)


@pytest.fixture
def anchors(honest: Honest, tmp_path: Path) -> str:
    """The auditor's own file of anchors."""
    return str(write_anchors(tmp_path / "anchors.json", anchor_of(honest.leaves())))


def perturb(*arguments: object, **environment: str) -> Result:
    """Run a command."""
    return CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])


def look(bundle: Path, *more: object) -> Result:
    """Audit without a data set."""
    return perturb("audit", bundle, "--hotkey", HOTKEY, "--netuid", NETUID, "--no-data", *more)


def test_an_honest_log_ends_with_0_and_says_what_was_left_out(
    honest: Honest, tmp_path: Path, anchors: str
) -> None:
    done = look(
        publish_honest(honest, tmp_path / "log"), "--anchors", anchors, "--json", tmp_path / "out.json"
    )
    assert done.exit_code == 0, done.output
    assert "Nothing found" in done.output
    assert "leaves whose images and answers were not looked at" in done.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["passed"] is True
    assert report["plan"]["size"] == len(honest.entries)


def test_without_anchors_it_fails(honest: Honest, tmp_path: Path) -> None:
    done = look(publish_honest(honest, tmp_path / "log"))
    assert done.exit_code == 1
    assert "expected at least one anchor" in done.output


def test_a_finding_ends_with_1_and_stands_in_the_json(honest: Honest, tmp_path: Path) -> None:
    leaves = tampered(honest, honest.receipts()[0], score_ppb=5)
    publish(leaves, tmp_path / "log", honest.blobs.folder)
    file = write_anchors(tmp_path / "anchors.json", anchor_of(leaves))
    done = look(tmp_path / "log", "--anchors", file, "--json", "-")
    assert done.exit_code == 1
    steps = {finding["step"] for finding in json.loads(done.stdout)["findings"]}
    assert steps == {"weights"}  # without a data set the score itself cannot be recomputed


def test_a_log_that_is_not_there_ends_with_a_sentence(tmp_path: Path) -> None:
    done = look(tmp_path / "nowhere", "--anchors", tmp_path / "none.json")
    assert done.exit_code == 1
    assert "none.json" in done.output
    done = look(tmp_path / "nowhere")
    assert done.exit_code == 3
    assert "checkpoint is not in" in done.output


def test_a_plan_its_parts_and_their_merger(honest: Honest, tmp_path: Path, anchors: str) -> None:
    log = publish_honest(honest, tmp_path / "log")
    plan = tmp_path / "plan.json"
    assert perturb("audit", "plan", log, "--out", plan).exit_code == 0
    files = []
    for part in ("log", "1/2", "2/2"):
        file = tmp_path / f"{part.replace('/', '-')}.json"
        done = look(log, "--anchors", anchors, "--plan", plan, "--part", part, "--json", file)
        assert done.exit_code == 0, done.output
        files.append(file)
    done = perturb("audit", "merge", *files, "--json", tmp_path / "whole.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "whole.json").read_text())["passed"] is True
    done = perturb("audit", "merge", *files[:2])
    assert done.exit_code == 1
    assert "are in no part" in done.output


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "-1/2"])
def test_a_part_that_is_none_is_usage(honest: Honest, tmp_path: Path, part: str) -> None:
    done = look(publish_honest(honest, tmp_path / "log"), "--part", part)
    assert done.exit_code == 2
    assert "expected log, or I/K" in done.output


def test_anchors_and_the_logs_address_come_from_the_chain(honest: Honest, tmp_path: Path) -> None:
    log = publish_honest(honest, tmp_path / "log")
    place = tmp_path / "chain.sqlite"

    async def commit() -> None:
        chain = LocalChain.create(place, NETUID, block_time_ms=0)
        await chain.register(HOTKEY, keypair(7).ss58_address, 0)
        await chain.advance(2)  # no leaf is of a later block than the anchor that pins it
        await chain.set_commitment(keypair(1), anchor_of(honest.leaves()).payload(), b"ftp://nowhere")
        await chain.close()

    asyncio.run(commit())
    network = {"NETWORK": "local", "NETUID": str(NETUID), "PERTURB_LOCAL_CHAIN": str(place)}
    arguments = ["audit", str(log), "--hotkey", HOTKEY, "--anchors", "chain", "--no-data"]
    done = perturb(*arguments, **network)
    assert done.exit_code == 0, done.output
    saved = tmp_path / "saved.json"
    assert perturb("audit", "anchors", "--hotkey", HOTKEY, "--out", saved, **network).exit_code == 0
    assert look(log, "--anchors", saved).exit_code == 0
    done = perturb("audit", "--hotkey", HOTKEY, "--anchors", "chain", "--no-data", **network)
    assert done.exit_code == 1
    assert "no address of a published log" in done.output
    nobody = ["audit", "anchors", "--hotkey", keypair(9).ss58_address, "--out", str(saved)]
    assert "no anchor on chain" in perturb(*nobody, **network).output


def test_receipts_kept_and_broken(honest: Honest, tmp_path: Path) -> None:
    file = tmp_path / "acknowledgements.jsonl"
    places = [*honest.receipts()[:2], honest.receipts(Reject.LINF_LOW)[0]]
    file.write_bytes(b"".join(signed(honest, place).encode() + b"\n" for place in places))
    log = publish_honest(honest, tmp_path / "log")
    done = perturb("audit", "receipt", file, log, "--netuid", NETUID, "--proofs", tmp_path / "proofs")
    assert done.exit_code == 0, done.output
    assert done.output.count("logged; told") == 3
    assert len(list((tmp_path / "proofs").glob("*.tlog-proof"))) == 3
    publish(tampered(honest, places[0], score_ppb=5), tmp_path / "log", honest.blobs.folder)
    done = perturb("audit", "receipt", file, log, "--netuid", NETUID, "--json", "-")
    assert done.exit_code == 1
    assert [row["status"] for row in json.loads(done.stdout)] == ["left out", "logged", "logged"]


def test_a_proof_of_fraud_is_verified_offline(honest: Honest, tmp_path: Path) -> None:
    file = tmp_path / "two-heads.fraud.json"
    file.write_bytes(prove_fraud(honest))
    done = perturb("audit", "fraud", file, "--hotkey", HOTKEY)
    assert done.exit_code == 0, done.output
    assert f"Proven: {HOTKEY} signed two logs" in done.output
    file.write_bytes(file.read_bytes()[:-1])
    done = perturb("audit", "fraud", file)
    assert done.exit_code == 3
    assert perturb("audit", "fraud", tmp_path / "none").exit_code == 1


def test_help_teaches_without_loading_a_network() -> None:
    done = perturb("audit")
    assert "perturb audit BUNDLE --hotkey" in done.output
    assert "--sample" in perturb("audit", "bundle", "--help").output
