"""A hub on loopback, which pins are compared with."""

from __future__ import annotations

from tests.support.hub_world import online, shards, world

__all__ = ["online", "shards", "world"]
