"""Token buckets."""

from __future__ import annotations

from perturbnet.transport.rates import Rates


class StillClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def test_burst_then_rate() -> None:
    clock = StillClock()
    rates = Rates(2.0, 3, clock=clock)
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
    clock.now_s += 0.5
    assert [rates.take("a") for _ in range(2)] == [True, False]
    clock.now_s += 1000
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]


def test_refused_requests_do_not_push_the_next_one_away() -> None:
    clock = StillClock()
    rates = Rates(1.0, 1, clock=clock)
    assert rates.take("a")
    for _ in range(10):
        clock.now_s += 0.0625
        assert not rates.take("a")
    clock.now_s += 0.375
    assert rates.take("a")


def test_keys_do_not_share_and_memory_is_bounded() -> None:
    rates = Rates(1.0, 1, clock=StillClock(), max_keys=2)
    assert rates.take("a")
    assert rates.take("b")
    assert not rates.take("a")  # now the newest
    assert rates.take("c")  # forgets b
    assert not rates.take("a")
    assert rates.take("b")
