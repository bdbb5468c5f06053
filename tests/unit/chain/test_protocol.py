"""Scaling of weights, and the small values."""

from __future__ import annotations

import pytest
from bittensor.intents import normalize
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.chain import to_u16
from perturbnet.errors import ChainRejected

SHARES = st.dictionaries(st.integers(0, 65535), st.integers(0, 10**9), max_size=40)


@given(SHARES)
def test_scaling_is_the_sdks(shares: dict[int, int]) -> None:
    uids = sorted(shares)
    expected_uids, expected = normalize(uids, [float(shares[uid]) for uid in uids])
    ours = to_u16(shares)
    assert set(ours) ^ set(expected_uids) <= {
        uid for uid in uids if shares[uid] * 131070 <= max(shares.values()) * 2
    }
    for uid, value in zip(expected_uids, expected, strict=True):
        assert abs(ours.get(uid, 0) - value) <= 1  # a tie that the float missed


@given(SHARES)
def test_scaling_twice_is_scaling_once(shares: dict[int, int]) -> None:
    once = to_u16(shares)
    assert to_u16(once) == once
    assert list(once) == sorted(once)
    assert not once or max(once.values()) == 65535
    assert min(once.values(), default=1) > 0
    uids, values = normalize(list(once), [float(value) for value in once.values()])
    assert dict(zip(uids, values, strict=True)) == once  # so the SDK sends exactly what we computed


@given(SHARES)
def test_scaling_keeps_the_order(shares: dict[int, int]) -> None:
    scaled = to_u16(shares)
    ranked = sorted(shares, key=lambda uid: shares[uid])
    values = [scaled.get(uid, 0) for uid in ranked]
    assert values == sorted(values)


def test_shares_of_the_five_ranks() -> None:
    shares = {7: 700_000_000, 0: 250_000_000, 3: 30_000_000, 9: 15_000_000, 1: 5_000_000}
    assert to_u16(shares) == {0: 23405, 1: 468, 3: 2809, 7: 65535, 9: 1404}


@pytest.mark.parametrize("shares", [{}, {1: 0}, {1: 0, 2: 0}])
def test_nothing_positive_gives_nothing(shares: dict[int, int]) -> None:
    assert to_u16(shares) == {}


@pytest.mark.parametrize(
    ("shares", "reason"), [({-1: 1}, "UidVecContainInvalidOne"), ({1: -1}, "WeightVecLengthIsLow")]
)
def test_impossible_shares(shares: dict[int, int], reason: str) -> None:
    with pytest.raises(ChainRejected, match=reason):
        to_u16(shares)
