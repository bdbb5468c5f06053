"""Parts per 10^9: scores, shares and SSIM wherever they stand in a leaf or a message."""

from __future__ import annotations

from fractions import Fraction

PPB = 10**9


def to_ppb(value: float) -> int:
    """Return a finite double in parts per 10^9, rounded half even from its exact value; for the ledger."""
    return round(Fraction(value) * PPB)


def from_ppb(ppb: int) -> float:
    """Return parts per 10^9 as a fraction of 1, for people."""
    return ppb / PPB
