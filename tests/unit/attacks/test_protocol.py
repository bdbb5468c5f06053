"""The bank: what is kept of what was accepted, and the deadline that may come early."""

from __future__ import annotations

import numpy as np

from perturbnet.attacks import Bank, Deadline
from perturbnet.wire.images import Pixels
from tests.support.fakes import VirtualClock, texture

CLEAN = texture("bank")


def changed(values: int, levels: int = 1) -> Pixels:
    pixels = CLEAN.copy()
    pixels.reshape(-1)[:values] += np.uint8(levels)
    return pixels


def test_the_bank_keeps_what_is_smaller_and_when_it_was_found() -> None:
    clock = VirtualClock(10.0)
    bank = Bank(CLEAN, lambda _: True, clock)
    assert bank.accepted == []
    for pixels in (changed(50), changed(80), changed(3, levels=2), changed(20)):
        clock.advance(1.0)
        assert bank(pixels)
    assert [(one.linf_u8, one.changed, one.sum_sq, one.at_s) for one in bank.accepted] == [
        (1, 50, 50, 11.0),
        (1, 20, 20, 14.0),
    ]
    assert bank.best is not None
    assert np.array_equal(bank.best.pixels, changed(20))
    assert bank.asked == 4


def test_what_is_refused_is_not_kept_and_what_is_kept_is_a_copy() -> None:
    bank = Bank(CLEAN, lambda pixels: int(np.count_nonzero(pixels != CLEAN)) > 4, VirtualClock())
    assert not bank(changed(3))
    assert bank.accepted == []
    pixels = changed(9)
    assert bank(pixels)
    pixels[:] = 0
    assert bank.best is not None
    assert np.array_equal(bank.best.pixels, changed(9))


def test_one_level_beats_two_however_many_values() -> None:
    bank = Bank(CLEAN, lambda _: True, VirtualClock())
    bank(changed(1, levels=2))
    bank(changed(CLEAN.size))
    assert bank.best is not None
    assert bank.best.linf_u8 == 1


def test_a_cancelled_deadline_has_passed() -> None:
    clock = VirtualClock(0.0)
    gone: list[bool] = []
    deadline = Deadline(clock, 5.0, lambda: bool(gone))
    assert (deadline.remaining_s, deadline.passed) == (5.0, False)
    gone.append(True)
    assert deadline.passed
    assert deadline.remaining_s == float("-inf")
