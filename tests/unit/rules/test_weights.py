"""Histories to weights, in integers that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.rules.weights import Standing, WeightVector, compute_weights, rank
from perturbnet.wire.units import PPB


def weights(*standings: Standing, burn_uid: int | None = None) -> WeightVector:
    return compute_weights(standings, history_size=2, min_processed=3, burn_uid=burn_uid)


def miner(uid: int, *scores_ppb: int, processed: int = 3) -> Standing:
    return Standing(uid, processed, scores_ppb or (500, 500))


def test_five_ranks_share_70_25_3_1_and_a_half_and_a_half() -> None:
    vector = weights(*[miner(uid, 100 * uid, 0) for uid in range(10, 0, -1)])
    assert vector.shares_ppb == {10: 700_000_000, 9: 250_000_000, 8: 30_000_000, 7: 15_000_000, 6: 5_000_000}
    assert vector.reason == "5 of 10 earn"


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (1, [1_000_000_000]),
        (2, [736_842_106, 263_157_894]),  # 700 and 250 of 950
        (3, [714_285_715, 255_102_040, 30_612_244 + 1]),
        (4, [703_517_589, 251_256_281, 30_150_753, 15_075_376]),
    ],
)
def test_shares_are_normalised_among_those_who_earn(count: int, shares: list[int]) -> None:
    found = weights(*[miner(uid, 100 - uid, 0) for uid in range(count)]).shares_ppb
    assert sum(found.values()) == PPB
    assert all(abs(found[uid] - share) <= 3 for uid, share in enumerate(shares))


def test_sole_miner_takes_all() -> None:
    assert weights(miner(7), miner(8, 0, 0), miner(9, 1)).shares_ppb == {7: PPB}


def test_ties_go_to_the_lower_uid() -> None:
    assert [
        standing.uid for standing in rank([miner(5), miner(2), miner(9)], history_size=2, min_processed=3)
    ] == [2, 5, 9]
    shares = weights(miner(5), miner(2), miner(9)).shares_ppb
    assert shares[2] > shares[5] > shares[9]
    assert weights(miner(5, 400, 600), miner(2, 999, 1)).shares_ppb == weights(miner(5), miner(2)).shares_ppb


def test_uid_0_keeps_its_own_weight() -> None:
    """Public bug: the slot of uid 0 was overwritten with the remainder, whatever uid 0 had earned."""
    last = weights(*[miner(uid, 100 + uid, 0) for uid in range(5)]).shares_ppb
    assert last[0] == 5_000_000
    best = weights(*[miner(uid, 100 - uid, 0) for uid in range(5)]).shares_ppb
    assert best[0] == 700_000_000
    nothing = weights(miner(0, 0, 0), miner(1), miner(2)).shares_ppb
    assert 0 not in nothing


def test_remainder_of_rounding_goes_to_the_first_rank() -> None:
    shares = weights(miner(3, 9, 9), miner(1, 8, 8)).shares_ppb
    assert shares == {1: 263_157_894, 3: 736_842_106}


@pytest.mark.parametrize(
    "standing",
    [
        miner(1, 900),  # a history that is not full
        miner(1, 900, 900, processed=2),  # too few counted rounds
        miner(1, 0, 0),  # earned nothing
    ],
)
def test_who_does_not_earn(standing: Standing) -> None:
    assert weights(standing).shares_ppb == {}
    assert (
        weights(standing).reason == "nobody is eligible: needs 3 counted rounds, 2 scores and a positive mean"
    )
    assert weights(standing, miner(2, 1, 0)).shares_ppb == {2: PPB}


def test_burn_uid_takes_all_only_while_nobody_is_eligible() -> None:
    assert weights(burn_uid=0).shares_ppb == {0: PPB}
    assert "burn uid 0" in weights(burn_uid=0).reason
    assert weights(miner(1, 0, 0), burn_uid=4).shares_ppb == {4: PPB}
    assert weights(miner(1), burn_uid=4).shares_ppb == {1: PPB}
    assert weights().shares_ppb == {}


@given(
    st.lists(
        st.builds(
            Standing,
            uid=st.integers(0, 300),
            processed=st.integers(0, 6),
            scores_ppb=st.lists(st.integers(0, PPB), max_size=2).map(tuple),
        ),
        unique_by=lambda standing: standing.uid,
    )
)
def test_shares_add_up_and_follow_the_ranks(standings: list[Standing]) -> None:
    shares = weights(*standings).shares_ppb
    assert sum(shares.values()) == (PPB if shares else 0)
    means = {standing.uid: sum(standing.scores_ppb) for standing in standings}
    by_share = sorted(shares, key=lambda uid: -shares[uid])
    assert by_share == sorted(shares, key=lambda uid: (-means[uid], uid))
    eligible = [
        item.uid
        for item in standings
        if item.processed >= 3 and len(item.scores_ppb) == 2 and means[item.uid]
    ]
    assert set(by_share) == set(sorted(eligible, key=lambda uid: (-means[uid], uid))[:5])
    assert compute_weights(reversed(standings), history_size=2, min_processed=3).shares_ppb == shares
