"""Connections to the miner's server: uvicorn's HTTP/1.1 protocol with the limits it lacks.

uvicorn caps the head of a request and the number of connections, but waits without end for a head, for a
body, and for a peer that does not read. Here a connection has a deadline for its head, one for its whole
life, and no address holds more than its share. (The deadline for the body is `server`'s, which can answer
408.)

Source: uvicorn 0.54, `uvicorn/protocols/http/h11_impl.py` and `server.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from perturbnet.errors import PortInUse, TransportError
from perturbnet.wire.addresses import rate_key


def guarded_protocol(*, head_timeout_s: float, lifetime_s: float, per_address: int) -> type[asyncio.Protocol]:
    """Return a protocol class for `uvicorn.Config(http=...)` with these limits."""

    class GuardedProtocol(H11Protocol):
        """One connection, with deadlines."""

        def __init__(
            self,
            config: uvicorn.Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(config, server_state, app_state, _loop)
            self._timers: list[asyncio.TimerHandle] = []

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if _held_by(self, self.connections) > per_address:
                transport.abort()
                return
            self._timers = [
                self.loop.call_later(head_timeout_s, self._expect_head),
                self.loop.call_later(lifetime_s, transport.abort),
            ]

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in self._timers:
                timer.cancel()
            super().connection_lost(exc)

        def _expect_head(self) -> None:
            if (
                getattr(self, "cycle", None) is None
            ):  # annotated as never None, which it is until the first head
                self.transport.abort()

    return GuardedProtocol


def _is_idle(connection: Any) -> bool:
    """Whether no request's head has arrived yet."""
    return connection.cycle is None


def _held_by(protocol: H11Protocol, connections: set[Any]) -> int:
    if protocol.client is None:
        return 0
    key = rate_key(protocol.client[0])
    return sum(1 for other in connections if other.client is not None and rate_key(other.client[0]) == key)


class EmbeddedServer(uvicorn.Server):
    """uvicorn in somebody else's event loop: no signals, no polling, and an end soon after `grace_s`."""

    def __init__(self, config: uvicorn.Config, *, grace_s: float) -> None:
        super().__init__(config)
        self._grace_s = grace_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask `serve` to end."""
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install nothing: signals are the program's own."""
        yield

    async def main_loop(self) -> None:
        """Wait to be stopped."""
        await self.on_tick(0)  # sets the default headers
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's
        """Let requests in flight finish for `grace_s`, cancel the rest, and leave no connection behind."""
        for server in self.servers:
            server.close()
        ends_s = asyncio.get_running_loop().time() + self._grace_s
        state = self.server_state
        for connection in list(state.connections):
            if _is_idle(connection):
                connection.transport.abort()
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=self._grace_s)
        for task in set(state.tasks):
            task.cancel()
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=self._grace_s / 2)
        while state.connections and asyncio.get_running_loop().time() < ends_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # answers are on their way out; uvicorn keeps a set and no event
        for connection in list(state.connections):
            connection.transport.abort()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to the port (0: any free one), not yet listening.

    Raises:
        PortInUse: another process has it; says what to do.
        TransportError: the address cannot be bound for another reason.

    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for TIME_WAIT
        bound.bind((host, port))
        # Two sockets may bind with SO_REUSEADDR while neither listens; listening is what claims the port.
        bound.listen(128)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            hint = (
                f"Stop what listens there (`ss -ltnp 'sport = :{port}'` names it), or set PERTURB_AXON_PORT."
            )
            raise PortInUse(f"port {port} on {host} is in use", hint=hint) from error
        raise TransportError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    bound.setblocking(False)
    return bound
