"""The checklist and its page are one; the command prints, writes JSON, and ends with a code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.cli import main
from perturbnet.doctor import CHECKS, write_checklist
from tests.unit.doctor.conftest import Ward

PAGE = Path(__file__).resolve().parents[3] / "docs" / "READINESS_CHECKLIST.md"


def perturb(ward: Ward, *words: str) -> Result:
    patient = ward.patient(words[0] if words else "validator")
    settings = patient.settings
    environment = {
        "NETWORK": "local",
        "NETUID": "1",
        "WALLET_NAME": settings.wallet_name,
        "WALLET_HOTKEY": "default",
        "WALLET_PATH": str(settings.wallet_path),
        "PERTURB_LOCAL_CHAIN": str(settings.local_chain),
        "PERTURB_STATE_DIR": str(settings.state_dir),
        "PERTURB_CACHE_DIR": str(settings.cache_dir),
        "PERTURB_PROFILE": "reference",
        "PERTURB_RULES_VERSION": "2",
        "PERTURB_METRICS_PORT": "0",
        "PERTURB_DEVICE": "cpu",
    }
    return CliRunner().invoke(main, ["doctor", *words], env=environment)


def test_the_page_is_what_the_checks_say() -> None:
    assert PAGE.read_text() == write_checklist(), "perturb doctor --checklist > docs/READINESS_CHECKLIST.md"
    for check in CHECKS:
        assert f"| {check.name} | {check.holds} | {check.todo} |" in PAGE.read_text()


def test_names_are_one_each_and_needs_come_before() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for number, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:number])
        for needed in check.needs:
            assert set(check.roles) <= set(CHECKS[names.index(needed)].roles)


def test_the_page_comes_from_the_command() -> None:
    assert CliRunner().invoke(main, ["doctor", "--checklist"]).output == write_checklist()


@pytest.mark.parametrize("role", ["validator", "miner"])
def test_a_node_that_was_never_prepared(ward: Ward, role: str) -> None:
    done = perturb(ward, role)
    assert done.exit_code == 1
    assert "bad: manifest" in done.output.splitlines()[-1]
    assert "-> Make it with `perturb bootstrap`" in " ".join(done.output.split())
    shown = [line.split()[1] for line in done.output.splitlines() if line[:1].isalpha()]
    assert shown == [check.name for check in CHECKS if role in check.roles]


def test_json(ward: Ward) -> None:
    done = perturb(ward, "validator", "--json", "-")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert rows["manifest"]["outcome"] == "bad"
    assert rows["data"] == {
        "check": "data",
        "outcome": "unknown",
        "found": "not told: see manifest",
        "todo": "",
    }
    assert all(row["todo"] for row in rows.values() if row["outcome"] in {"bad", "look"})


def test_nothing_is_written(ward: Ward) -> None:
    before = sorted(path for path in ward.folder.rglob("*"))
    perturb(ward, "validator")
    assert sorted(path for path in ward.folder.rglob("*")) == before


def test_a_setting_that_is_not_allowed(ward: Ward) -> None:
    done = perturb(ward, "validator", "--set", "PERTURB_K_MINERS=lots")
    assert (done.exit_code, "PERTURB_K_MINERS" in done.output) == (2, True)
    assert perturb(ward, "validator", "--set", "X").exit_code == 2
