"""Intervals for a share of images: the same digits on every machine, and never too narrow.

Two intervals, both two-sided, for `successes` of `trials`:

    Clopper–Pearson     exact for a number of trials that was fixed beforehand
    anytime             holds at every number of trials at once, so whoever looks after each image and stops
                        when they like is still right with the probability that `level` names

The anytime interval holds every p with likelihood(p) > (1 - level) * mixture, where likelihood(p) is
p^k (1-p)^(n-k) and the mixture is the same averaged over p with the weight Beta(1/2, 1/2):

    mixture(k, n) = (1/2)(3/2)...(k-1/2) * (1/2)(3/2)...(n-k-1/2) / n!

mixture / likelihood(p) is a martingale that begins at 1 where p is the truth, so it ever reaches 1/(1-level)
with probability at most 1-level (Ville). Of all mixtures this one loses the least in the worst case.

Rules
- A bound is decimal text with DIGITS digits, rounded outward: the true bound lies between it and its
  neighbour inside. Which grid point that is, is a question about rational numbers: it is decided with
  decimals rounded down and up (`decimal`, correctly rounded by its specification), where these leave it open
  with more digits, and at last with whole numbers. No float, no libm, nothing that a machine could decide
  otherwise.
- Both are symmetric: the interval of the failures is the mirror of that of the successes.

Sources: Clopper and Pearson 1934, Biometrika 26; Ville 1939, Étude critique de la notion de collectif;
Robbins 1970, Ann. Math. Statist. 41 (mixtures); Krichevsky and Trofimov 1981, IEEE Trans. Inf. Theory 27 (the
weight); Howard, Ramdas, McAuliffe and Sekhon 2021, Ann. Statist. 49; Waudby-Smith and Ramdas 2024, JRSS B 86.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache

import msgspec

from perturbnet.errors import OutputError

DIGITS = 6
GRID = 10**DIGITS
LEVEL = "0.95"
CLOPPER_PEARSON = "clopper-pearson"
ANYTIME = "anytime-beta-binomial"
MAX_TRIALS = 10**7  # a few seconds; a stranger's certificate may name any number
_LEVEL = re.compile(r"0\.[0-9]{1,6}")
_PRECISIONS = (40, 120)

Bounds = tuple[Decimal, Decimal]
"""A number between two decimals."""


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share and its bounds, as decimal text between 0 and 1."""

    method: str
    level: str
    successes: int
    trials: int
    lower: str
    upper: str


def clopper_pearson(successes: int, trials: int, level: str = LEVEL) -> Interval:
    """The exact interval for a number of trials fixed beforehand; 0 to 1 where there are none.

    Raises:
        OutputError: counts or a level that cannot be.

    """
    return _interval(CLOPPER_PEARSON, _tail_at_most, successes, trials, level)


def anytime(successes: int, trials: int, level: str = LEVEL) -> Interval:
    """The interval that holds at every number of trials at once; 0 to 1 where there are none.

    Raises:
        OutputError: counts or a level that cannot be.

    """
    return _interval(ANYTIME, _unlikely, successes, trials, level)


def share(successes: int, trials: int) -> str:
    """The share as decimal text, rounded to the nearest, halves up; "" where there are no trials."""
    if not trials:
        return ""
    scaled = (2 * successes * GRID + trials) // (2 * trials)
    return _text(scaled)


Excluded = Callable[[int, int, int, Fraction], bool]
"""excluded(j, k, n, error): whether p = j / GRID, which is below k / n, lies below the interval."""


def _interval(method: str, excluded: Excluded, successes: int, trials: int, level: str) -> Interval:
    if not 0 <= successes <= trials <= MAX_TRIALS:
        raise OutputError(f"{successes} of {trials} is no share; up to {MAX_TRIALS} trials are allowed")
    lower, upper = _grid_bounds(excluded, successes, trials, _error_of(level))
    return Interval(method, level, successes, trials, _text(lower), _text(upper))


@lru_cache(maxsize=4096)
def _grid_bounds(excluded: Excluded, successes: int, trials: int, error: Fraction) -> tuple[int, int]:
    below = _lower(excluded, successes, trials, error)
    return below, GRID - _lower(excluded, trials - successes, trials, error)


def _error_of(level: str) -> Fraction:
    if not _LEVEL.fullmatch(level) or not Fraction(level):
        raise OutputError(
            f"the level {level[:40]!r} is not between 0 and 1 with at most six digits", hint="such as 0.95"
        )
    return 1 - Fraction(level)


def _lower(excluded: Excluded, k: int, n: int, error: Fraction) -> int:
    """The largest j for which p = j / GRID is still excluded; 0 where nothing is."""
    if k == 0:
        return 0
    low, high = 0, -(-k * GRID // n)  # p = 0 is excluded, for k > 0; k / n never is
    while high - low > 1:
        middle = (low + high) // 2
        if excluded(middle, k, n, error):
            low = middle
        else:
            high = middle
    return low


def _tail_at_most(j: int, k: int, n: int, error: Fraction) -> bool:
    """Whether P(X >= k) <= error / 2 for X binomial of n trials with p = j / GRID < k / n."""
    for digits in _PRECISIONS:
        verdict = _at_most(_tail(j, k, n, digits), _times(error / 2, (Decimal(1), Decimal(1)), digits))
        if verdict is not None:
            return verdict
    total = sum(math.comb(n, i) * j**i * (GRID - j) ** (n - i) for i in range(k, n + 1))
    return Fraction(total, GRID**n) <= error / 2


def _unlikely(j: int, k: int, n: int, error: Fraction) -> bool:
    """Whether the likelihood of p = j / GRID is at most error times the mixture."""
    for digits in _PRECISIONS:
        limit = _times(error, _mixture(k, n, digits), digits)
        verdict = _at_most(_likelihood(j, k, n, digits), limit)
        if verdict is not None:
            return verdict
    mixture = Fraction(_odd(k) * _odd(n - k), 2**n * math.factorial(n))
    return Fraction(j**k * (GRID - j) ** (n - k), GRID**n) <= error * mixture


def _at_most(value: Bounds, limit: Bounds) -> bool | None:
    """Whether a number is at most another, both known between bounds; None where that is still open."""
    if value[1] <= limit[0]:
        return True
    return False if value[0] > limit[1] else None


def _times(factor: Fraction, value: Bounds, digits: int) -> Bounds:
    """Bounds of a fraction of a number."""
    up, down = Decimal(factor.numerator), Decimal(factor.denominator)
    floor, ceiling = _contexts(digits)
    low = floor.divide(floor.multiply(value[0], up), down)
    return low, ceiling.divide(ceiling.multiply(value[1], up), down)


def _tail(j: int, k: int, n: int, digits: int) -> Bounds:
    """Bounds of P(X >= k): terms from k upward, each smaller than the one before, the rest as a series."""
    floor, ceiling = _contexts(digits)
    coefficient, likelihood = _choose(k, n, digits), _likelihood(j, k, n, digits)
    low = floor.multiply(coefficient[0], likelihood[0])
    high = ceiling.multiply(coefficient[1], likelihood[1])
    total_low, total_high, smallest = low, high, Decimal(10) ** -digits
    for i in range(k, n):
        up, down = Decimal((n - i) * j), Decimal((i + 1) * (GRID - j))
        low = floor.divide(floor.multiply(low, up), down)
        high = ceiling.divide(ceiling.multiply(high, up), down)
        total_low, total_high = floor.add(total_low, low), ceiling.add(total_high, high)
        if high < ceiling.multiply(smallest, total_high):  # what is left: at most a geometric series
            rest = Decimal((i + 1) * (GRID - j)), Decimal((i + 1) * (GRID - j) - (n - i) * j)
            total_high = ceiling.add(total_high, ceiling.divide(ceiling.multiply(high, rest[0]), rest[1]))
            break
    return total_low, total_high


def _likelihood(j: int, k: int, n: int, digits: int) -> Bounds:
    """Bounds of p^k (1-p)^(n-k) for p = j / GRID."""
    p, q = Decimal(j).scaleb(-DIGITS), Decimal(GRID - j).scaleb(-DIGITS)
    floor, ceiling = _contexts(digits)
    low = floor.multiply(_power(floor, p, k), _power(floor, q, n - k))
    return low, ceiling.multiply(_power(ceiling, p, k), _power(ceiling, q, n - k))


@lru_cache(maxsize=64)
def _choose(k: int, n: int, digits: int) -> Bounds:
    """Bounds of the binomial coefficient."""
    fewer = min(k, n - k)
    return _product(((n - fewer + i, i) for i in range(1, fewer + 1)), digits)


@lru_cache(maxsize=64)
def _mixture(k: int, n: int, digits: int) -> Bounds:
    """Bounds of the likelihood averaged over Beta(1/2, 1/2)."""
    sizes = (k, n - k)
    factors = (
        (2 * i - 1, 2 * (i + done))
        for size, done in zip(sizes, (0, k), strict=True)
        for i in range(1, size + 1)
    )
    return _product(factors, digits)


def _product(ratios: Iterable[tuple[int, int]], digits: int) -> Bounds:
    """Bounds of a product of fractions."""
    floor, ceiling = _contexts(digits)
    low = high = Decimal(1)
    for up, down in ratios:
        low = floor.divide(floor.multiply(low, Decimal(up)), Decimal(down))
        high = ceiling.divide(ceiling.multiply(high, Decimal(up)), Decimal(down))
    return low, high


def _power(context: Context, base: Decimal, exponent: int) -> Decimal:
    """A power by squaring, each product rounded the context's way; `Context.power` promises less."""
    result = Decimal(1)
    while exponent:
        if exponent & 1:
            result = context.multiply(result, base)
        base, exponent = context.multiply(base, base), exponent >> 1
    return result


@lru_cache(maxsize=8)
def _contexts(digits: int) -> tuple[Context, Context]:
    """Arithmetic that rounds down, and arithmetic that rounds up; nothing in it under- or overflows."""
    down, up = (
        Context(prec=digits, rounding=rounding, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
        for rounding in (ROUND_FLOOR, ROUND_CEILING)
    )
    return down, up


def _odd(count: int) -> int:
    """1 * 3 * 5 * ..., so many factors."""
    return math.prod(range(1, 2 * count, 2))


def _text(scaled: int) -> str:
    return f"{scaled // GRID}.{scaled % GRID:0{DIGITS}d}"
