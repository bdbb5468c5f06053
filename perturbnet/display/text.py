"""Text of strangers, made safe for a terminal and short enough for a table."""

from __future__ import annotations

import unicodedata

_BAD = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    """The text in one line, without characters that a terminal obeys or hides."""
    return "".join("\ufffd" if unicodedata.category(letter) in _BAD else letter for letter in text)


def short(address: str) -> str:
    """A hotkey that fits a table."""
    return address if len(address) <= 14 else f"{address[:7]}…{address[-4:]}"
