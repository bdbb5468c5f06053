"""The rendered units in a Debian guest: they run a network, systemd ends and resumes them, they are shut in.

Where `/dev/kvm` runs Debian's kernel at a usable speed (`GUEST=machine`) the guest is a virtual machine; else
(`GUEST=container`, the default) a container with the guest's own systemd on this kernel. The disk is built
once, in `GUEST_CACHE` (default: perturb-guest in the user's cache folder).

    GUEST=machine python -m pytest -m slow tests/nix/guest -s
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nix.guest.container import UNPROVEN, run_container
from tests.nix.guest.image import open_image
from tests.nix.guest.machine import Outcome, run_machine

KIND = os.environ.get("GUEST", "container")
WITHIN_S = 3000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(WITHIN_S + 1800),
    pytest.mark.needs("debootstrap", "mkfs.ext4", "unshare", "test -O /"),
    *([pytest.mark.needs("qemu-system-x86_64", "test -w /dev/kvm")] if KIND == "machine" else []),
]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    cache = Path(os.environ.get("GUEST_CACHE", home / ".cache" / "perturb-guest"))
    run = {"machine": run_machine, "container": run_container}[KIND]
    found = run(open_image(cache), tmp_path_factory.mktemp("guest"), within_s=WITHIN_S)
    for item in found.findings:
        sys.stdout.write(json.dumps(item) + "\n")
    return found


def test_the_trial_came_to_its_end(outcome: Outcome) -> None:
    assert [item for item in outcome.findings if item["name"] == "failed"] == []
    assert outcome.finding("end")


def test_the_units_are_the_committed_ones(outcome: Outcome) -> None:
    same: Any = outcome.finding("units")["equal_to_committed"]
    assert len(same) == 4
    assert all(same.values())


def test_both_start_after_their_bootstraps_and_say_what_they_do(outcome: Outcome) -> None:
    found: Any = outcome.finding("started")
    assert found["bootstrap"] == {"Result": "success", "ExecMainStatus": "0"}
    for role in ("validator", "miner"):
        assert found[role]["ActiveState"] == "active"
        assert found[role]["WatchdogUSec"] == "20s"
        assert found[role]["User"] == f"perturb-{role}"
        assert found[role]["StatusText"]


def test_weights_are_set(outcome: Outcome) -> None:
    found: Any = outcome.finding("weights")
    assert found["rounds"] >= 3
    assert sum(weight for _, weight in found["weights"]) > 0
    assert all(float(level) < 1.5 for level in found["exposure"].values())


@pytest.mark.parametrize("name", ["stopped loop", "kill -9", "miner kill -9"])
def test_what_ends_is_started_again_and_resumes(outcome: Outcome, name: str) -> None:
    found: Any = outcome.finding(name)
    assert found["restarts"] == found["restarts_before"] + 1
    if name != "miner kill -9":
        assert found["rounds_after"] > found["rounds_before"]
        assert any("Resuming" in line for line in found["said"])


def test_the_watchdog_ended_the_stopped_loop(outcome: Outcome) -> None:
    found: Any = outcome.finding("stopped loop")
    assert any("Watchdog timeout" in line for line in found["said"])
    assert 5 < found["ended_after_s"] < 60  # of 20 s since the last ping, and 15 s for its last words


def test_what_is_forbidden_is_denied_and_only_by_the_unit(outcome: Outcome) -> None:
    inside: Any = outcome.finding("probe")
    control: Any = outcome.finding("control")
    assert inside["uid"] != 0
    assert control["uid"] == 0
    assert {name for name, tried in inside["denied"].items() if tried["result"] != "denied"} == set()
    unproven = {name for name, tried in control["denied"].items() if tried["result"] == "denied"}
    assert unproven <= (UNPROVEN if KIND == "container" else set())


def test_what_it_needs_is_allowed(outcome: Outcome) -> None:
    inside: Any = outcome.finding("probe")
    assert {name: tried for name, tried in inside["allowed"].items() if tried["result"] != "done"} == {}


def test_a_backup_is_restored(outcome: Outcome) -> None:
    found: Any = outcome.finding("restored")
    assert found["rounds_after"] > found["rounds_before"]
    assert found["owners"] == 1
    assert found["said"]


def test_a_wrong_setting_is_not_tried_again(outcome: Outcome) -> None:
    found: Any = outcome.finding("wrong setting")
    assert (found["ExecMainStatus"], found["NRestarts"], found["ActiveState"]) == ("2", "0", "failed")
    assert any("NETUID" in line for line in found["said"])


def test_both_stop_in_order(outcome: Outcome) -> None:
    found: Any = outcome.finding("stopped")
    assert found["seconds"] < 30
    for result in found["results"].values():
        assert result == {"Result": "success", "ExecMainStatus": "0"}
