"""What a hub or its store may do instead of answering; see `hub_server`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Status:
    """Answer with a status and headers instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Announce all of it, send so many bytes, then reset the connection."""

    after: int


@dataclass(frozen=True)
class Short:
    """Announce and send so many bytes only: a proper answer that is too short."""

    bytes: int


@dataclass(frozen=True)
class Wrong:
    """Answer with these bytes instead."""

    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IgnoreRange:
    """Send all of it with 200, whatever range was asked for."""


@dataclass(frozen=True)
class Slow:
    """Send so many bytes a second."""

    bytes_per_s: float


@dataclass(frozen=True)
class Headers:
    """Answer as ever, with other headers."""

    headers: Mapping[str, str]


Fault = Status | Cut | Short | Wrong | IgnoreRange | Slow | Headers
