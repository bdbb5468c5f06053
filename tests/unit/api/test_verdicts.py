"""`verify`, `score` and `attack` from the outside: the network's verdicts, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import perturbnet
from perturbnet.api.verdicts import NO_CHALLENGE
from perturbnet.attacks import AttackResult, AttackTask, Deadline, registry
from perturbnet.errors import ArgumentError, AttackError, PerturbError, Reject
from perturbnet.rules.scoring import score_verdict
from perturbnet.rules.verification import Task, verify
from tests.support.fakes import BlockEngine, BlockOracle, flip, response_body, texture

ENGINE = BlockEngine()
CLEAN = texture("a picture")
FLIPPED = flip(ENGINE, CLEAN)
CLASSIFIER = perturbnet.Classifier(ENGINE, lambda: BlockOracle(ENGINE))
RULES = perturbnet.default_rules()


class Scripted:
    """An attack that asks the verifier about one image and then ends as it is told."""

    name = "scripted"

    def __init__(self, pixels: Any, end: Exception | None = None) -> None:
        self.pixels, self.end = pixels, end

    def run(self, oracle: Any, task: AttackTask, deadline: Deadline) -> AttackResult:
        task.accepts(self.pixels)
        if self.end is not None:
            raise self.end
        return AttackResult(None, 0, "gave\nup")


def script(monkeypatch: pytest.MonkeyPatch, attack: Scripted) -> None:
    monkeypatch.setitem(registry._OURS, "scripted", lambda: attack)


class TestVerify:
    def test_two_arrays_have_the_verdict_of_the_bytes_that_a_miner_would_send(self) -> None:
        body = response_body("round-1", "0" * 64, FLIPPED)
        label = ENGINE.classify([CLEAN])[0].text
        task = Task("round-1", NO_CHALLENGE, CLEAN, label, "0.03", RULES, 1 << 20)
        found = perturbnet.verify(CLEAN, FLIPPED, ENGINE)
        assert found == verify(task, body, ENGINE) == perturbnet.verify(CLEAN, body, ENGINE)
        assert found.reject is Reject.OK

    @pytest.mark.parametrize(
        ("changed", "code"),
        [
            (CLEAN, Reject.LINF_LOW),
            (255 - CLEAN, Reject.LINF_HIGH),
            (texture("a picture", 48, 63), Reject.PNG_SIZE),
            (b"", Reject.BAD_MESSAGE),
            (b'{"task_id": []}', Reject.BAD_MESSAGE),
            (b"\x89PNG\r\n\x1a\n", Reject.BAD_MESSAGE),
            (b"x" * (1 << 20), Reject.BODY_TOO_LARGE),
            (response_body("t", "0" * 64, FLIPPED, perturbed_image_b64="AAAA"), Reject.PNG_SIGNATURE),
        ],
    )
    def test_whatever_is_wrong_with_the_answer_is_a_verdict(self, changed: Any, code: Reject) -> None:
        assert perturbnet.verify(CLEAN, changed, ENGINE).reject is code

    def test_files_do_too(self, tmp_path: Path) -> None:
        Image.fromarray(CLEAN).save(tmp_path / "clean.png")
        Image.fromarray(FLIPPED).save(tmp_path / "changed.png")
        found = perturbnet.verify(tmp_path / "clean.png", str(tmp_path / "changed.png"), ENGINE)
        assert found == perturbnet.verify(CLEAN, FLIPPED, ENGINE)
        with pytest.raises(PerturbError, match="No such file"):
            perturbnet.verify(tmp_path / "none.png", FLIPPED, ENGINE)

    def test_the_callers_label_counts(self) -> None:
        assert perturbnet.verify(CLEAN, FLIPPED, ENGINE, label="x").reject is Reject.CLEAN_MISLABELLED

    def test_a_fraction_of_255_allows_that_many_levels(self) -> None:
        wide = perturbnet.default_rules(max_linf_delta="0.5", min_ssim="0", min_psnr_db="0")
        for levels in (1, 2, 5, 8, 16, 100):
            changed = CLEAN.astype(int)
            changed[0, 0] += np.where(changed[0, 0] > 127, -levels, levels)
            pixels = changed.astype(np.uint8)
            found = perturbnet.verify(CLEAN, pixels, ENGINE, epsilon=levels / 255, rules=wide)
            assert (found.linf_u8, found.reject) == (levels, Reject.LABEL_UNCHANGED)
            if levels > 1:
                less = perturbnet.verify(CLEAN, pixels, ENGINE, epsilon=(levels - 0.01) / 255, rules=wide)
                assert less.reject is Reject.LINF_HIGH

    @pytest.mark.parametrize(
        "epsilon", [0, -1, 1.01, 0.003, "x", "", "nan", float("inf"), [], Decimal("NaN")]
    )
    def test_an_epsilon_that_is_none_is_named(self, epsilon: Any) -> None:
        with pytest.raises(
            ArgumentError, match=r"^epsilon: .* is not allowed; expected a number above 0.003"
        ):
            perturbnet.verify(CLEAN, FLIPPED, ENGINE, epsilon=epsilon)

    @pytest.mark.parametrize("epsilon", ["0.03", 0.03, Decimal("0.0300"), None, "3e-2"], ids=repr)
    def test_one_epsilon_in_many_forms(self, epsilon: Any) -> None:
        expected = perturbnet.verify(CLEAN, FLIPPED, ENGINE)
        assert perturbnet.verify(CLEAN, FLIPPED, ENGINE, epsilon=epsilon) == expected
        assert perturbnet.score(expected, epsilon=epsilon) == perturbnet.score(expected)

    @pytest.mark.parametrize(
        "image",
        [
            CLEAN / 255,
            CLEAN[..., 0],
            CLEAN[..., :2],
            CLEAN.tolist(),
            None,
            3,
            CLEAN[:31],
            np.zeros((0, 9, 3)),
        ],
    )
    def test_an_image_that_is_none_is_named(self, image: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^clean: .* is not allowed; expected") as raised:
            perturbnet.verify(image, FLIPPED, ENGINE)
        assert isinstance(raised.value, ValueError)
        assert len(raised.value.message) < 300


class TestScore:
    def test_it_is_the_networks(self) -> None:
        found = perturbnet.verify(CLEAN, FLIPPED, ENGINE)
        assert perturbnet.score(found) == score_verdict(found, epsilon="0.03", rules=RULES, response_ms=0) > 0

    def test_what_is_no_verdict_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="verdict: 'ok' is not allowed"):
            perturbnet.score("ok")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="response_ms: -1"):
            perturbnet.score(perturbnet.Verdict(Reject.OK), response_ms=-1)


class TestRules:
    def test_the_environment_does_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PERTURB_MIN_SSIM", "0.5")
        assert perturbnet.default_rules().min_ssim == "0.98"
        assert perturbnet.default_rules(min_psnr_db="30").min_psnr_db == "30"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"min_sim": "1"}, "min_sim: 'min_sim' is not allowed; expected one of version, timeout_ms"),
            ({"min_ssim": 0.9}, "min_ssim: 0.9 is not allowed; expected Input should be a valid string"),
            ({"max_linf_delta": "0.001"}, "expected min_linf_delta 0.003 < max_linf_delta 0.001 <= 1"),
        ],
    )
    def test_what_is_not_allowed_is_named(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(ArgumentError) as raised:
            perturbnet.default_rules(**changes)
        assert said in raised.value.message


class TestAttack:
    def test_what_it_finds_is_what_verify_accepts(self) -> None:
        outcome = perturbnet.attack(CLASSIFIER, CLEAN, seconds=2, name="pgd")
        assert outcome.found
        assert outcome.adversarial is not None
        assert outcome.verdict == perturbnet.verify(CLEAN, outcome.adversarial, ENGINE)
        assert outcome.score_ppb == perturbnet.score(outcome.verdict) > 0

    def test_what_was_accepted_is_kept_whatever_the_attack_says(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(monkeypatch, Scripted(FLIPPED))
        outcome = perturbnet.attack(CLASSIFIER, CLEAN, name="scripted")
        assert outcome.adversarial is not None
        assert (outcome.adversarial == FLIPPED).all()

    def test_nothing_found_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        script(monkeypatch, Scripted(CLEAN))
        outcome = perturbnet.attack(CLASSIFIER, CLEAN, name="scripted")
        assert (outcome.found, outcome.adversarial, outcome.score_ppb) == (False, None, 0)
        assert (outcome.verdict.reject, outcome.reason) == (Reject.NO_IMAGE, "gave\nup")

    def test_an_attack_that_fails_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        script(monkeypatch, Scripted(CLEAN, KeyError("x")))
        with pytest.raises(AttackError, match=r"'scripted' failed: KeyError\('x'\)"):
            perturbnet.attack(CLASSIFIER, CLEAN, name="scripted")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"seconds": 0}, "seconds: 0 is not allowed"),
            ({"seconds": float("nan")}, "seconds: nan is not allowed"),
            ({"name": "none"}, "name: 'none' is not allowed; expected one of exchange, pgd"),
            ({"seed": -1}, "seed: -1 is not allowed"),
            ({"epsilon": 2}, "epsilon: 2 is not allowed"),
        ],
    )
    def test_what_is_not_allowed_is_named(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ArgumentError) as raised:
            perturbnet.attack(CLASSIFIER, CLEAN, **options)
        assert said in raised.value.message
