"""What a setting may be: one small class per kind, with `parse` (text to value) and `allowed` (for people).

Values arrive as text (environment, command line) or as TOML values; a TOML value is turned into text first,
so both take the same path. Numbers stay `Decimal`, because a gate is compared as the rational its text names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}


class Kind(Protocol):
    """Parses one kind of value; raises ValueError for anything that is not allowed."""

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""

    def parse(self, text: str) -> object:
        """The value that `text` names."""


@dataclass(frozen=True)
class Integer:
    """A whole number within [minimum, maximum]."""

    minimum: int
    maximum: int

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, text: str) -> int:
        """See `Kind`."""
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(text)
        value = int(text)
        if not self.minimum <= value <= self.maximum:
            raise ValueError(text)
        return value


@dataclass(frozen=True)
class Number:
    """A decimal number within [minimum, maximum], kept exactly as written.

    Six decimals at most: so `str` of the value is never in scientific notation, which records do not take.
    """

    minimum: str
    maximum: str

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return f"a decimal number from {self.minimum} to {self.maximum}, at most 6 decimals"

    def parse(self, text: str) -> Decimal:
        """See `Kind`."""
        if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", text):
            raise ValueError(text)
        value = Decimal(text) or Decimal(0)  # never -0
        if not Decimal(self.minimum) <= value <= Decimal(self.maximum):
            raise ValueError(text)
        return value


@dataclass(frozen=True)
class Flag:
    """true or false."""

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return "true or false"

    def parse(self, text: str) -> bool:
        """See `Kind`."""
        lowered = text.lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
        raise ValueError(text)


@dataclass(frozen=True)
class Text:
    """A text that matches a pattern in full."""

    pattern: str = r"[^\x00-\x1f]{1,512}"
    words: str = "a text without control characters"

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return self.words

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if not re.fullmatch(self.pattern, text):
            raise ValueError(text)
        return text


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return "one of " + ", ".join(self.words)

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if text not in self.words:
            raise ValueError(text)
        return text


@dataclass(frozen=True)
class Location:
    """A path; `~` is the home directory."""

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return "a path"

    def parse(self, text: str) -> Path:
        """See `Kind`."""
        if not text or not text.isprintable():
            raise ValueError(text)
        try:
            return Path(text).expanduser()
        except RuntimeError as error:  # ~somebody whom the system does not know
            raise ValueError(text) from error


@dataclass(frozen=True)
class IpAddress:
    """An IP address, in its usual form."""

    @property
    def allowed(self) -> str:
        """See `Kind`."""
        return "an IPv4 or IPv6 address"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        return str(ip_address(text))
