"""A hub on loopback for every test of the room."""

from __future__ import annotations

from tests.support.hub_world import online, shards, world

__all__ = ["online", "shards", "world"]
