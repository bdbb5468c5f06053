"""Randomness that is the same everywhere."""

from __future__ import annotations

from collections import Counter

import pytest

from perturbnet.datasets.seeded_numbers import SeededNumbers


def test_the_stream_is_pinned() -> None:
    draws = SeededNumbers(b"key", "purpose")
    assert [draws.below(1000) for _ in range(6)] == [104, 747, 878, 272, 69, 347]


def test_key_and_purpose_both_matter() -> None:
    streams = [SeededNumbers(key, purpose) for key in (b"a", b"b") for purpose in ("x", "y")]
    assert len({tuple(stream.below(1 << 32) for _ in range(4)) for stream in streams}) == 4


@pytest.mark.parametrize("limit", [1, 2, 3, 12, 255])
def test_every_value_below_the_limit_is_as_likely(limit: int) -> None:
    draws = SeededNumbers(b"key", f"{limit}")
    seen = Counter(draws.below(limit) for _ in range(200 * limit))
    assert sorted(seen) == list(range(limit))
    assert max(seen.values()) < 300


def test_words_past_the_last_multiple_are_drawn_again() -> None:
    draws = SeededNumbers(b"key", "rejection")
    draws._words = [5, (1 << 64) - 1]
    assert draws.below((1 << 63) + 1) == 5


def test_between_includes_both_ends() -> None:
    draws = SeededNumbers(b"key", "ends")
    assert {draws.between(-1, 1) for _ in range(100)} == {-1, 0, 1}
