"""Keys, registration, stake, rules: found as they are, and what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perturbnet.chain import Chain
from perturbnet.config import Settings
from perturbnet.doctor import CHECKS, CheckOutcome, examine
from perturbnet.errors import ChainTimeout
from tests.unit.doctor.conftest import Ward

OK, LOOK, BAD, UNKNOWN = CheckOutcome.OK, CheckOutcome.LOOK, CheckOutcome.BAD, CheckOutcome.UNKNOWN


def test_settings_that_a_live_network_needs(ward: Ward) -> None:
    assert ward.find("settings").outcome is OK
    ward.live = True
    patient = ward.patient()
    patient.loaded.origins["NETUID"] = "default"  # type: ignore[index]
    check = next(check for check in CHECKS if check.name == "settings")
    found = check.examine(patient)
    assert (found.outcome, "NETUID" in found.found) == (BAD, True)
    assert "config/" in found.todo


def test_a_hotkey_that_is_there(ward: Ward) -> None:
    found = ward.find("hotkey")
    assert (found.outcome, found.found) == (OK, ward.wallets["validator"].hotkey.ss58_address)


def test_a_hotkey_that_others_may_read(ward: Ward) -> None:
    file = ward.folder / "wallets" / "validator" / "hotkeys" / "default"
    file.chmod(0o644)
    found = ward.find("hotkey")
    assert (found.outcome, found.todo) == (LOOK, f"chmod 600 {file}")


def test_a_hotkey_that_is_missing_or_broken(ward: Ward) -> None:
    found = ward.find("hotkey", WALLET_HOTKEY="other")
    assert (found.outcome, "btcli wallet create" in found.todo) == (BAD, True)
    file = ward.folder / "wallets" / "validator" / "hotkeys" / "default"
    file.write_text("{}")
    assert ward.find("hotkey").outcome is BAD
    assert ward.find("hotkey", PERTURB_HOTKEY_FILE=str(ward.folder / "none")).outcome is BAD


def test_a_coldkey_on_a_live_machine(ward: Ward) -> None:
    assert ward.find("coldkey").outcome is OK
    ward.live = True
    assert ward.find("coldkey").outcome is LOOK
    (ward.folder / "wallets" / "validator" / "coldkey").unlink()
    assert ward.find("coldkey").outcome is OK


def test_registered(ward: Ward) -> None:
    assert ward.find("registration").found.startswith("uid 0")
    assert ward.find("registration", "miner").found.startswith("uid 1")


def test_not_registered(ward: Ward, tmp_path: Path) -> None:
    from perturbnet.runtime.wallets import create_wallet

    create_wallet(ward.folder / "wallets", "stranger", "default", seed="stranger")
    found = ward.find("registration", WALLET_NAME="stranger")
    assert (found.outcome, found.todo) == (BAD, "register it: btcli subnets register --netuid 1")


def test_stake(ward: Ward) -> None:
    assert ward.find("stake").outcome is OK
    found = ward.find("stake", WALLET_NAME="miner")
    assert (found.outcome, "no validator permit" in found.found) == (BAD, True)


@pytest.mark.parametrize(("version", "outcome"), [("1", BAD), ("2", OK), ("3", OK)])
def test_the_version_of_the_rules(ward: Ward, version: str, outcome: CheckOutcome) -> None:
    assert ward.find("rules", PERTURB_RULES_VERSION=version).outcome is outcome


@pytest.mark.parametrize(
    ("role", "timeout_s", "outcome"),
    [
        ("miner", "0.5", BAD),
        ("miner", "1", BAD),
        ("miner", "1.9", LOOK),
        ("miner", "20", OK),
        ("validator", "1", LOOK),
        ("validator", "2", OK),
    ],
)
def test_time_to_search(ward: Ward, role: str, timeout_s: str, outcome: CheckOutcome) -> None:
    found = ward.find("time", role, PERTURB_TIMEOUT_SECONDS=timeout_s)
    assert found.outcome is outcome
    assert f"of a time-out of {timeout_s} s (PERTURB_TIMEOUT_SECONDS) a miner keeps 1 s" in found.found
    assert ("every answer is empty" in found.found) is (timeout_s in {"0.5", "1"})


def test_publication(ward: Ward) -> None:
    assert ward.find("publication").outcome is LOOK
    place = {"PERTURB_PUBLISH_TO": str(ward.folder / "bundle")}
    found = ward.find("publication", **place)
    assert (found.outcome, "after 200 blocks" in found.found) == (OK, True)
    ward.live = True
    assert ward.find("publication", **place, PERTURB_PUBLISH_DELAY_BLOCKS="199").outcome is BAD
    assert ward.find("publication", **place, PERTURB_PUBLISH_DELAY_BLOCKS="200").outcome is OK


def test_the_chain_is_read_once(ward: Ward) -> None:
    patient = ward.patient()
    for name in ("chain", "registration", "stake", "rules", "publication"):
        next(check for check in CHECKS if check.name == name).examine(patient)
    assert ward.connections == 1


def test_a_silent_chain_is_one_finding_and_costs_one_deadline(ward: Ward) -> None:
    calls = []

    class Silent:
        async def metagraph(self) -> None:
            calls.append(1)
            raise ChainTimeout("metagraph: no answer within 30 s")

        async def close(self) -> None:
            await asyncio.sleep(0)

    def connect(_: Settings) -> Chain:
        return Silent()  # type: ignore[return-value]

    patient = ward.patient()
    patient.connect = connect
    found = {check.name: finding for check, finding in examine(patient)}
    assert found["chain"].outcome is BAD
    assert {found[name].outcome for name in ("registration", "stake", "rules", "publication")} == {UNKNOWN}
    assert found["stake"].found == "not told: see registration"
    assert len(calls) == 1
