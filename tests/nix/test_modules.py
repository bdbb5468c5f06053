"""The NixOS modules: right configurations are taken, wrong ones refused with the sentence that helps."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perturbnet.config import load_settings, registry
from tests.nix.conftest import Run, evaluation

pytestmark = pytest.mark.needs("nix-instantiate", "printenv NIXPKGS_LIB")

Evaluate = Callable[..., Any]


def test_every_configuration_goes_as_it_says(evaluate: Evaluate) -> None:
    counts = evaluate("counts")
    assert counts["right"] >= 8
    assert counts["refused"] + counts["mistyped"] >= 12
    assert evaluate("outcomes") == {"right": {}, "refused": {}, "mistyped": {}}


def test_a_value_that_is_not_allowed_is_refused_by_what_is_allowed(evaluate: Evaluate, nix: Run) -> None:
    for case, sentence in evaluate("sentences").items():
        refused = nix(*evaluation(os.environ["NIXPKGS_LIB"], f"mistyped.{case}"))
        assert refused.returncode != 0, case
        # Newer versions of Nix quote with other marks.
        said = refused.stderr.replace("`", "'").replace("\N{LEFT SINGLE QUOTATION MARK}", "'")
        assert sentence.replace("`", "'") in said, (case, refused.stderr)


def test_every_setting_is_offered_to_its_role_or_has_a_reason_not_to_be(evaluate: Evaluate) -> None:
    held = {"WALLET_NAME", "WALLET_HOTKEY", "WALLET_PATH"}
    held |= {"PERTURB_STATE_DIR", "PERTURB_CACHE_DIR", "PERTURB_HOTKEY_FILE"}
    for role, offered in evaluate("offered").items():
        wanted = [s for s in registry() if s.role in {role, "both"} and not s.secret and s.name not in held]
        assert offered == sorted(s.key.lower() for s in wanted)


def test_what_a_unit_is_given_is_what_the_program_reads(evaluate: Evaluate) -> None:
    service = evaluate("units.every-kind")["services"]["perturb-validator-main"]
    given = {name: text.replace("%%", "%") for name, text in service["environment"].items()}
    known = {setting.name for setting in registry()}
    loaded = load_settings({name: text for name, text in given.items() if name in known})
    settings = loaded.settings
    assert (settings.netuid, settings.network, settings.k_miners) == (44, "finney", 64)
    assert (str(settings.min_ssim), str(settings.min_psnr_db)) == ("0.985", "38.25")
    assert (settings.paranoid, settings.engine, settings.log_level) == (True, "integer", "INFO")
    assert settings.publish_url == "https://example.org/a%20b"
    assert {name for name in given if name.startswith("PERTURB_")} <= known


def test_key_and_secrets_reach_the_unit_alone(evaluate: Evaluate) -> None:
    service = evaluate("units.every-kind")["services"]["perturb-validator-main"]["serviceConfig"]
    assert service["LoadCredential"] == ["hotkey:/run/secrets/hotkey"]
    assert service["EnvironmentFile"] == ["/run/secrets/validator.env"]
    assert service["ExecStart"].endswith(" validator run")
    assert service["ExecStartPre"] == ["/usr/bin/true"]  # the script that compares the fingerprint


def test_a_host_may_have_several(evaluate: Evaluate) -> None:
    found = evaluate("units.two-of-each")
    assert sorted(found["services"]) == [
        "perturb-miner-a",
        "perturb-miner-b",
        "perturb-miner-bootstrap",
        "perturb-validator-a",
        "perturb-validator-b",
        "perturb-validator-bootstrap",
    ]
    states = {name: s["serviceConfig"].get("StateDirectory") for name, s in found["services"].items()}
    assert states["perturb-validator-a"] != states["perturb-validator-b"]
    assert found["ports"] == []
    assert evaluate("units.miner")["ports"] == [8091]
    assert evaluate("units.off")["services"] == {}


def test_a_miner_with_a_manifest_prepares_the_model_only(evaluate: Evaluate) -> None:
    bootstrap = "perturb-miner-bootstrap"
    without = evaluate("units.miner-without-data")["services"][bootstrap]["serviceConfig"]["ExecStart"]
    full = evaluate("units.miner")["services"][bootstrap]["serviceConfig"]["ExecStart"]
    assert without.endswith(" bootstrap model")
    assert full.endswith(" bootstrap")


class TestBeforeStart:
    """The script that puts a manifest in its place and insists on a fingerprint, run by a shell."""

    def start(self, evaluate: Evaluate, folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
        script = evaluate("script", folder=str(folder), **given)
        return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)

    def test_a_manifest_is_put_in_its_place(self, evaluate: Evaluate, tmp_path: Path) -> None:
        given = tmp_path / "a manifest's file.json"
        given.write_text("{}")
        fingerprint = hashlib.sha256(b"{}").hexdigest()
        folder = tmp_path / "bootstrap" / "reference"
        started = self.start(evaluate, folder, manifest=str(given), fingerprint=fingerprint)
        assert (started.returncode, started.stderr) == (0, "")
        assert (folder / "manifest.json").read_text() == "{}"

    def test_another_fingerprint_is_refused(self, evaluate: Evaluate, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text("{}")
        wanted = "0" * 64
        started = self.start(evaluate, tmp_path, fingerprint=wanted)
        assert started.returncode == 3
        found = hashlib.sha256(b"{}").hexdigest()
        expected = f"this node's protocol fingerprint is {found}; the option fingerprint asks for {wanted}\n"
        assert started.stderr == expected

    def test_no_manifest_is_refused(self, evaluate: Evaluate, tmp_path: Path) -> None:
        started = self.start(evaluate, tmp_path, fingerprint="0" * 64)
        assert started.returncode != 0
        assert "manifest.json" in started.stderr
