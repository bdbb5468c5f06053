"""The soak, short. The long one: python -m tests.integration.soak FOLDER."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.soak import run_soak
from tests.integration.soak_plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_short_soak(tmp_path: Path) -> None:
    outcome = run_soak(Plan(tmp_path / "soak", rounds=40, calm=15, kill_every_s=15))
    assert outcome.rounds >= 40
    assert outcome.kills >= 2
    assert outcome.acknowledged > 0
    assert outcome.intents > 0
    assert outcome.submitted > 0
    assert {"ok", "linf_low", "body_too_large", "png_bomb", "timeout", "offline", "bad_signature"} <= set(
        outcome.codes
    )
