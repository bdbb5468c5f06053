"""The SDK's connection to a node, closed whatever happens while it opens.

When opening is cancelled, as our deadlines do to a silent node, the SDK forgets the connection without
closing it: its socket and its task stay until the node ends them, one more for each attempt. Here every
connection is remembered from the moment it exists.

Source: bittensor 11.3: `RpcSubstrate.connect`, `_transport.rpc.RpcSession`.
"""

from __future__ import annotations

from typing import Any

from bittensor import RpcSubstrate
from bittensor.settings import default_archive_endpoints, default_fallback_endpoints, resolve_endpoint


class Rpc(RpcSubstrate):
    """What `bt.Client` makes for a network's name or endpoint, and `close` closes all of it at any time."""

    def __init__(self, network: str) -> None:
        """Connect nothing yet. A name has the SDK's public fallbacks, an endpoint has none."""
        name, endpoint = resolve_endpoint(network)
        spares = [url for url in default_fallback_endpoints(name) if url != endpoint]
        super().__init__(
            endpoint, fallback_endpoints=spares, archive_endpoints=default_archive_endpoints(name)
        )
        self._opened: list[Any] = []

    def _interface(self, endpoint: str, fallbacks: list[str]) -> Any:
        connection = super()._interface(endpoint, fallbacks)
        self._opened.append(connection)
        return connection

    async def close(self) -> None:
        """Close every connection that was ever begun. Idempotent."""
        await super().close()
        while self._opened:
            await self._opened.pop().close()
