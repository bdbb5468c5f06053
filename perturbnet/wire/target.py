"""A miner as the metagraph announces it: whom a challenge goes to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A miner as the metagraph announces it."""

    uid: int
    hotkey: str
    host: str | None
    port: int
