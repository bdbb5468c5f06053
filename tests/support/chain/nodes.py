"""Nodes on loopback that misbehave: real websockets, before the real adapter and the real SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import websockets

Reply = Callable[[dict[str, Any]], Any]
SILENT = object()


def half_dead(question: dict[str, Any]) -> Any:
    """A node that greets and names its runtime, and never says more."""
    if question["method"] == "state_getRuntimeVersion":
        return {"specName": "node-subtensor", "specVersion": 1, "transactionVersion": 1, "apis": []}
    return SILENT


def silent(question: dict[str, Any]) -> Any:
    """A node that takes every question and answers none."""
    return SILENT


@dataclass
class Node:
    """One node: where it listens, what it was asked, and how many connections it holds."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    opened: int = 0
    open_now: int = 0


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[Node]:
    """A node that answers by `reply`."""
    node = Node()

    async def talk(connection: websockets.ServerConnection) -> None:
        node.opened += 1
        node.open_now += 1
        try:
            async for message in connection:
                question = json.loads(message)
                node.asked.append(question["method"])
                result = reply(question)
                if result is not SILENT:
                    await connection.send(
                        json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": result})
                    )
        finally:
            node.open_now -= 1

    async with websockets.serve(talk, "127.0.0.1", 0) as server:
        node.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield node


@asynccontextmanager
async def deaf() -> AsyncIterator[Node]:
    """A server that accepts connections and never shakes hands."""
    node = Node()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node.opened += 1
        node.open_now += 1
        try:
            while await reader.read(4096):
                pass
        finally:
            node.open_now -= 1
            writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        node.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield node
