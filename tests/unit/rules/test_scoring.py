"""Scores: golden values of the design, monotone, nothing for a failure."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import Reject
from perturbnet.rules.scoring import score_perturbation, score_verdict, settle_duplicates
from perturbnet.rules.verification import Verdict
from perturbnet.wire.messages import Rules
from tests.support.fakes import RULES

HEIGHT, WIDTH = 100, 100
VALUES = 3 * HEIGHT * WIDTH


def verdict(linf_u8: int, sum_sq: int, reject: Reject = Reject.OK) -> Verdict:
    return Verdict(reject, height=HEIGHT, width=WIDTH, linf_u8=linf_u8, sum_sq=sum_sq)


def score(found: Verdict, *, rules: Rules = RULES, epsilon: str = "0.1", response_ms: int = 0) -> int:
    return score_verdict(found, epsilon=epsilon, rules=rules, response_ms=response_ms)


@pytest.mark.parametrize(("levels", "limit"), [(1, 0.953), (2, 0.771), (3, 0.619)])
def test_the_design_s_figures(levels: int, limit: float) -> None:
    assert round(score_perturbation(levels, 0.0, epsilon="0.1", rules=RULES), 3) == limit


def test_golden_scores() -> None:
    assert score(verdict(1, 1)) == 952_577_811
    assert score(verdict(1, VALUES)) == 879_725_325
    assert score(verdict(7, 49 * VALUES)) == 8_404_861


def test_the_formula_in_another_order_agrees() -> None:
    found = score(verdict(2, 4 * 5000))
    linf = (2 / 255 - 0.003) / 0.027
    rmse = math.sqrt(4 * 5000 / VALUES) / 255 / 0.03
    assert found == pytest.approx(1e9 * (0.7 * (1 - linf) ** 2 + 0.3 * (1 - rmse) ** 2), abs=2)


def test_a_smaller_epsilon_is_the_cap() -> None:
    tight = score(verdict(2, 4 * VALUES), epsilon="0.01")
    assert (
        tight < score(verdict(2, 4 * VALUES), epsilon="0.03") == score(verdict(2, 4 * VALUES), epsilon="0.2")
    )


@given(
    linf=st.integers(1, 7),
    more=st.integers(0, 3),
    sum_sq=st.integers(1, 49 * VALUES),
    extra=st.integers(0, VALUES),
)
def test_a_larger_change_never_earns_more(linf: int, more: int, sum_sq: int, extra: int) -> None:
    assert score(verdict(linf + more, sum_sq + extra)) <= score(verdict(linf, sum_sq))


def test_beyond_the_cap_nothing_is_left_and_nothing_is_negative() -> None:
    assert score(verdict(255, 255 * 255 * VALUES)) == 0


@pytest.mark.parametrize("reject", [code for code in Reject if code is not Reject.OK])
def test_any_failure_earns_nothing(reject: Reject) -> None:
    assert score(verdict(1, 1, reject)) == 0
    assert score(verdict(1, 1)) > 0


def test_speed() -> None:
    rules = RULES.model_copy(update={"perturbation_weight": "0.0", "speed_weight": "0.5"})
    assert [score(verdict(1, 1), rules=rules, response_ms=ms) for ms in (0, 500, 2000, 9000)] == [
        500_000_000,
        375_000_000,
        0,
        0,
    ]


def test_both_weights_add_up() -> None:
    both = RULES.model_copy(update={"perturbation_weight": "0.75", "speed_weight": "0.25"})
    alone = score(verdict(1, 1))
    assert score(verdict(1, 1), rules=both, response_ms=1000) == pytest.approx(
        0.75 * alone + 125_000_000, abs=1
    )


def test_without_a_weight_its_component_does_not_count() -> None:
    only_linf = RULES.model_copy(update={"rmse_component_weight": "0"})
    assert score(verdict(2, 1), rules=only_linf) == score(verdict(2, VALUES), rules=only_linf)


SCORES = {1: 900, 2: 901, 3: 500, 4: 0, 5: 0}
PIXELS = {1: "a", 2: "a", 3: "b", 4: "", 5: ""}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("record", SCORES),
        ("split", {1: 450, 2: 450, 3: 500, 4: 0, 5: 0}),
        ("zero", {1: 0, 2: 0, 3: 500, 4: 0, 5: 0}),
    ],
)
def test_duplicates(mode: str, expected: dict[int, int]) -> None:
    assert settle_duplicates(SCORES, PIXELS, mode) == expected


def test_an_unknown_rule_for_duplicates_is_refused() -> None:
    with pytest.raises(ValueError, match="'halve' is not allowed; expected record, split or zero"):
        settle_duplicates(SCORES, PIXELS, "halve")
