"""Every row once an epoch, in an order that follows from the secret; restarts rebuild it, auditors too."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbnet.errors import PerturbError
from perturbnet.rules.traversal import (
    SEGMENT_DRAWS,
    Draw,
    Order,
    Traversal,
    commit_to_keys,
    draw_seed,
    keyed_numbers,
    opens_commitment,
    replay_order,
    segment_count,
    segment_key,
)

SECRET = bytes(range(32))
ROWS = st.integers(1, 2000)
SECRETS = st.binary(min_size=32, max_size=32)


def stated_number(key: bytes, draw: int, bound: int) -> int:
    """The module's definition, by the letter."""
    for counter in range(1000):
        message = b"draw" + struct.pack(">II", draw, counter)
        number = int.from_bytes(hmac.new(key, message, hashlib.sha256).digest()[:8], "big")
        if number < 2**64 - 2**64 % bound:
            return number % bound
    raise AssertionError("a thousand refusals in a row")


def stated_order(secret: bytes, rows: int) -> list[int]:
    remaining, order = list(range(rows)), []
    for draw in range(rows):
        key = hmac.new(secret, b"segment" + struct.pack(">I", draw // 720), hashlib.sha256).digest()
        chosen = stated_number(key, draw, len(remaining))
        order.append(remaining[chosen])
        remaining[chosen] = remaining[-1]
        remaining.pop()
    return order


def rest(traversal: Traversal) -> list[int]:
    rows = []
    while not traversal.finished:
        rows.append(traversal.next().row)
    return rows


def keys(secret: bytes, rows: int) -> list[bytes]:
    return [segment_key(secret, segment) for segment in range(segment_count(rows))]


@given(SECRETS, ROWS)
def test_every_row_once(secret: bytes, rows: int) -> None:
    assert sorted(rest(Traversal(secret, rows))) == list(range(rows))


@settings(max_examples=20)
@given(SECRETS, ROWS)
def test_order_is_the_stated_one(secret: bytes, rows: int) -> None:
    assert rest(Traversal(secret, rows)) == stated_order(secret, rows)


@given(SECRETS, ROWS, st.data())
def test_restart_at_any_cursor_gives_the_same_rest(secret: bytes, rows: int, data: st.DataObject) -> None:
    cursor = data.draw(st.integers(0, rows))
    order = rest(Traversal(secret, rows))
    restarted = Traversal(secret, rows, epoch=3, cursor=cursor)
    assert restarted.cursor == cursor
    assert restarted.finished == (cursor == rows)
    if cursor < rows:
        assert restarted.next() == Draw(3, cursor, order[cursor])
        assert rest(restarted) == order[cursor + 1 :]


@pytest.mark.parametrize("cursor", [0, 1, 719, 720, 721, 1439, 1440, 1441, 1500])
def test_restart_at_the_edges_of_segments(cursor: int) -> None:
    assert rest(Traversal(SECRET, 1500, cursor=cursor)) == stated_order(SECRET, 1500)[cursor:]


def test_order_is_pinned() -> None:
    """The order is a constant of the protocol: who changes it makes every published epoch unverifiable."""
    assert segment_key(SECRET, 0).hex() == "4ddd78a4c0f4494a8b251d45a1129c2e2282645bbe1845f9ad15b8a0827e05bd"
    assert segment_key(SECRET, 1).hex() == "ee960ced034da2518f28264273a66d4b95e6eae3f47d2da9fb29db4b8bd1c685"
    seed = draw_seed(segment_key(SECRET, 0), 5, "freshness")
    assert seed.hex() == "1fad409a1c3a746ba99cfe96b5d1821b6b55e0bcbc3a8fb438ae24db6de4827e"
    assert rest(Traversal(SECRET, 10)) == [6, 0, 9, 2, 1, 7, 5, 8, 4, 3]
    assert rest(Traversal(SECRET, 1000))[:5] == [596, 126, 198, 336, 307]


def test_order_of_the_production_data_set_is_pinned() -> None:
    order = replay_order(keys(SECRET, 126_689), 126_689)
    digest = hashlib.sha256(struct.pack(f">{len(order)}I", *order)).hexdigest()
    assert digest == "1e66cb32a49e028ac46a845e3da5a68bffaf5e3b43647c5407336c2e1931b806"
    assert Traversal(SECRET, 126_689, cursor=126_688).next().row == order[-1] == 84_091


def test_another_secret_is_another_order() -> None:
    assert rest(Traversal(SECRET, 100)) != rest(Traversal(bytes(32), 100))


# Auditors


@given(SECRETS, ROWS)
def test_published_keys_replay_the_order(secret: bytes, rows: int) -> None:
    order = rest(Traversal(secret, rows))
    published = keys(secret, rows)
    for count in range(len(published) + 1):
        assert replay_order(published[:count], rows) == order[: count * SEGMENT_DRAWS]
    assert replay_order([*published, SECRET], rows) == order


def test_another_key_is_another_segment() -> None:
    order, published = stated_order(SECRET, 1500), keys(SECRET, 1500)
    replayed = replay_order([published[0], published[0]], 1500)
    assert replayed[:720] == order[:720]
    assert replayed[720:] != order[720:1440]


@pytest.mark.parametrize(
    ("rows", "segments"), [(1, 1), (719, 1), (720, 1), (721, 2), (1440, 2), (126_689, 176)]
)
def test_commitments_are_opened_by_their_keys_alone(rows: int, segments: int) -> None:
    commitments, published = commit_to_keys(SECRET, rows), keys(SECRET, rows)
    assert len(commitments) == len(published) == segments == segment_count(rows)
    assert all(map(opens_commitment, published, commitments))
    assert commitments[0] == hashlib.sha256(published[0]).hexdigest()
    assert not opens_commitment(published[0][:-1], commitments[0])
    assert not opens_commitment(bytes(32), commitments[0])
    assert not opens_commitment(published[0], "é")
    assert len(set(commitments)) == segments


def test_seeds_belong_to_one_draw_and_one_purpose() -> None:
    key = segment_key(SECRET, 0)
    seeds = [draw_seed(key, draw, purpose) for draw in range(50) for purpose in ("freshness", "selection")]
    assert len(set(seeds)) == 100
    assert all(len(seed) == 32 for seed in seeds)


# No row is favoured


def test_numbers_have_no_modulo_bias() -> None:
    """With a bound of 3·2^62, `number % bound` alone would fall below 2^62 in half of all cases, not a third.

    9,000 numbers: 3,000 in each third, standard deviation 44.7. Naively 4,500: 33 deviations away.
    """
    bound, key = 3 << 62, segment_key(SECRET, 0)
    number_below = keyed_numbers(key)
    thirds = Counter(number_below(draw, bound) >> 62 for draw in range(9000))
    assert set(thirds) == {0, 1, 2}
    assert all(abs(count - 3000) < 6 * 44.7 for count in thirds.values())


def test_refused_numbers_are_drawn_again_with_the_next_counter() -> None:
    """A bound just above 2^63 refuses every other number: the definition's counter is seen at work."""
    bound, key = (1 << 63) + 1, segment_key(SECRET, 0)
    number_below = keyed_numbers(key)
    found = [number_below(draw, bound) for draw in range(200)]
    assert found == [stated_number(key, draw, bound) for draw in range(200)]
    first_tries = [int.from_bytes(draw_seed(key, draw, "draw")[:8], "big") for draw in range(200)]
    assert found != first_tries
    assert max(found) < bound


@pytest.mark.parametrize("bound", [1, 2, 3, 1 << 63, 1 << 64])
def test_bounds_at_the_edges(bound: int) -> None:
    key = segment_key(SECRET, 0)
    number_below = keyed_numbers(key)
    assert [number_below(draw, bound) for draw in range(50)] == [
        stated_number(key, draw, bound) for draw in range(50)
    ]


def test_every_order_of_four_rows_is_about_as_likely() -> None:
    """2,400 secrets, 24 orders: chi-square with 23 degrees of freedom; 60 is passed once in 30,000 runs."""
    orders = Counter(tuple(rest(Traversal(number.to_bytes(32, "big"), 4))) for number in range(2400))
    assert len(orders) == 24
    assert sum((count - 100) ** 2 / 100 for count in orders.values()) < 60


# What makes no sense


@pytest.mark.parametrize("rows", [0, -1, 2**31])
def test_no_rows(rows: int) -> None:
    with pytest.raises(PerturbError, match=str(rows)):
        Order(rows)


@pytest.mark.parametrize("cursor", [-1, 11])
def test_cursor_outside_the_epoch(cursor: int) -> None:
    with pytest.raises(PerturbError, match=f"cursor {cursor} is outside"):
        Traversal(SECRET, 10, cursor=cursor)


@pytest.mark.parametrize("key", [b"", SECRET[:-1], SECRET * 3])
def test_key_of_another_length(key: bytes) -> None:
    with pytest.raises(PerturbError, match=f"32 bytes, got {len(key)}"):
        Traversal(key, 10)
    with pytest.raises(PerturbError, match=f"32 bytes, got {len(key)}"):
        Order(10).take(key)


def test_epoch_that_is_over() -> None:
    traversal = Traversal(SECRET, 3, cursor=3)
    with pytest.raises(PerturbError, match="the epoch is over"):
        traversal.next()
    order = Order(3)
    order.take(SECRET)
    with pytest.raises(PerturbError, match="3 draws wanted, 2 of its rows are left"):
        order.take_run(SECRET, 3)
    assert (order.drawn, order.remaining) == (1, 2)
