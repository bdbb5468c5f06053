"""Who is asked: exploration, one operator once, exact and seeded."""

from __future__ import annotations

import hashlib
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.rules.selection import Selection, SelectionRules, candidates, select_miners
from perturbnet.rules.subnet import Metagraph, Neuron

SEED = bytes(32)
RULES = SelectionRules(k=10, exploration=Decimal("0.20"), min_processed=50)


def neuron(uid: int, **values: Any) -> Neuron:
    plain: dict[str, Any] = {
        "uid": uid,
        "hotkey": f"hot{uid}",
        "coldkey": f"cold{uid}",
        "stake_rao": 0,
        "validator_permit": False,
        "active": True,
        "ip": f"192.0.2.{uid}",
        "port": 8091,
        "last_update": 0,
        "registered_block": 0,
    }
    return Neuron(**{**plain, **values})


def network(count: int) -> list[Neuron]:
    return [neuron(uid) for uid in range(count)]


def select(
    neurons: list[Neuron],
    rules: SelectionRules = RULES,
    *,
    processed: dict[int, int] | None = None,
    seed: bytes = SEED,
    own: str = "hot0",
) -> Selection:
    snapshot = Metagraph(1, 1, tuple(neurons))
    return select_miners(snapshot, own_hotkey=own, processed=processed or {}, rules=rules, seed=seed)


def uids(selection: Selection) -> list[int]:
    return [neuron.uid for neuron in selection.neurons]


def test_a_fifth_explores() -> None:
    """uids 1 to 20 are new, 21 to 60 have their counted rounds: 2 and 8 of the 10 asked."""
    processed = dict.fromkeys(range(21, 61), 50) | dict.fromkeys(range(1, 21), 49)
    chosen = select(network(61), processed=processed)
    assert chosen.explored == 2
    assert sum(uid <= 20 for uid in uids(chosen)) == 2
    assert sum(uid > 20 for uid in uids(chosen)) == 8
    assert uids(chosen) == sorted(set(uids(chosen)))


@pytest.mark.parametrize(
    ("new", "known", "explored"),
    [(0, 30, 0), (1, 30, 1), (2, 30, 2), (30, 8, 2), (30, 5, 5), (30, 0, 10), (3, 3, 3), (0, 0, 0)],
)
def test_pool_that_is_too_small_is_filled_from_the_other(new: int, known: int, explored: int) -> None:
    processed = dict.fromkeys(range(new + 1, new + known + 1), 50)
    chosen = select(network(new + known + 1), processed=processed)
    assert chosen.explored == explored
    assert len(chosen.neurons) == min(10, new + known)
    assert sum(uid <= new for uid in uids(chosen)) == explored


@pytest.mark.parametrize(
    ("exploration", "explored"), [("0", 0), ("0.04", 0), ("0.06", 1), ("0.25", 2), ("0.35", 4), ("1", 10)]
)
def test_share_is_rounded_half_to_even(exploration: str, explored: int) -> None:
    rules = SelectionRules(10, Decimal(exploration), 50)
    assert select(network(41), rules, processed=dict.fromkeys(range(21, 41), 50)).explored == explored


def test_young_network_is_asked_in_full() -> None:
    assert uids(select(network(5))) == [1, 2, 3, 4]
    assert uids(select([neuron(0)])) == []
    assert uids(select([])) == []


def test_the_asking_validator_is_never_asked() -> None:
    assert uids(select(network(5), own="hot3")) == [0, 1, 2, 4]


def test_validator_that_does_not_serve_is_not_asked() -> None:
    """A permitted one without an axon is no miner; a miner without an axon is asked, and gets 0."""
    neurons = [
        neuron(0),
        neuron(1, validator_permit=True, ip=None),
        neuron(2, validator_permit=True),
        neuron(3, ip=None),
    ]
    assert uids(select(neurons)) == [2, 3]


def test_one_operator_is_asked_once_at_its_lowest_uid() -> None:
    neurons = [neuron(uid, coldkey=f"cold{uid % 3}") for uid in range(9)]
    assert uids(select(list(reversed(neurons)), own="nobody")) == [0, 1, 2]
    lifted = SelectionRules(10, Decimal("0.2"), 50, group_by_coldkey=False)
    assert uids(select(neurons, lifted, own="nobody")) == list(range(9))


def test_own_operators_miners_are_still_asked() -> None:
    """The validator itself does not stand for its coldkey's miners."""
    assert uids(select([neuron(0, coldkey="c"), neuron(1, coldkey="c"), neuron(2, coldkey="c")])) == [1]


def test_naming_a_victims_address_silences_nobody() -> None:
    """An axon's IP is self-declared; so grouping by it is off unless asked for."""
    neurons = [neuron(1, ip="192.0.2.9"), neuron(2, ip="192.0.2.9"), neuron(3, ip=None), neuron(4, ip=None)]
    assert uids(select(neurons)) == [1, 2, 3, 4]
    grouped = SelectionRules(10, Decimal("0.2"), 50, group_by_ip=True)
    assert uids(select(neurons, grouped)) == [1, 3, 4]


def test_order_is_that_of_the_seeded_hash() -> None:
    """Stated so that an auditor can repeat it: the lowest SHA-256(seed || hotkey) come first."""
    chosen = select(network(40), SelectionRules(7, Decimal(0), 0))
    expected = sorted(range(1, 40), key=lambda uid: hashlib.sha256(SEED + b"hot%d" % uid).digest())[:7]
    assert uids(chosen) == sorted(expected)


@given(st.binary(min_size=32, max_size=32), st.randoms())
def test_same_seed_same_choice_whatever_the_order(seed: bytes, random: Any) -> None:
    neurons = network(40)
    first = select(neurons, seed=seed)
    random.shuffle(neurons)
    assert select(neurons, seed=seed) == first
    assert len(first.neurons) == 10


def test_everybody_is_asked_about_equally_often() -> None:
    """2,000 draws of 10 out of 40: 500 each, standard deviation 19.4; seven of them are allowed."""
    processed = dict.fromkeys(range(21, 41), 50)
    rules = SelectionRules(10, Decimal("0.5"), 50)
    counts: Counter[int] = Counter()
    for number in range(2000):
        counts.update(uids(select(network(41), rules, processed=processed, seed=number.to_bytes(32, "big"))))
    assert set(counts) == set(range(1, 41))
    assert all(abs(count - 500) < 7 * 19.4 for count in counts.values())


@given(
    st.lists(st.integers(0, 100), max_size=30),
    st.integers(1, 40),
    st.decimals(0, 1, places=2),
    st.integers(0, 60),
)
def test_as_many_as_possible_and_nobody_twice(
    counts: list[int], k: int, exploration: Decimal, min_processed: int
) -> None:
    neurons = [neuron(uid, coldkey=f"cold{uid // 2}") for uid in range(len(counts))]
    rules = SelectionRules(k, exploration, min_processed)
    chosen = select(neurons, rules, processed=dict(enumerate(counts)))
    pool = candidates(Metagraph(1, 1, tuple(neurons)), "hot0", rules)
    assert len(chosen.neurons) == len(set(uids(chosen))) == min(k, len(pool))
    assert set(chosen.neurons) <= set(pool)
    new = [found for found in chosen.neurons if counts[found.uid] < min_processed]
    assert len(new) == chosen.explored
