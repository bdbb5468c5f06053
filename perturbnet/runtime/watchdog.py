"""What a service says to the system that started it: ready, alive, stopping. Alive means that its work moves.

Rules
- The ping is sent from the event loop, so a loop that is blocked or a process that is stopped sends none.
- The loop says what it does next and how long that may take at most (`Watchdog.expect`). When a step takes
  longer, the ping stays out too: the log says once which step it is, and the manager ends the process.
- Where nobody listens (no NOTIFY_SOCKET) nothing is sent and nothing is watched.

Source: sd_notify(3), sd_watchdog_enabled(3); the message is a datagram of NAME=value lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from dataclasses import dataclass
from typing import Protocol

from perturbnet.runtime.clock import Clock

SOCKET_VARIABLE = "NOTIFY_SOCKET"
PERIOD_VARIABLE = "WATCHDOG_USEC"
PROCESS_VARIABLE = "WATCHDOG_PID"
PINGS_A_PERIOD = 4
_MAX_STATUS_CHARACTERS = 120

log = logging.getLogger(__name__)


class Expect(Protocol):
    """How a loop tells its watchdog what it does next."""

    def __call__(self, step: str, within_s: float) -> None:
        """From now on `step`, for `within_s` seconds at most."""


def expect_nothing(step: str, within_s: float) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class _Step:
    name: str
    began_s: float
    due_s: float


class Watchdog:
    """One process's line to its service manager. `expect` may be called from any thread."""

    def __init__(self, send: Callable[[str], None] | None, period_s: float | None, clock: Clock) -> None:
        """Send by `send` (None: nobody listens), and within each `period_s` (None: no pings are wanted)."""
        self._send = send
        self._period_s = period_s
        self._clock = clock
        self._step: _Step | None = None
        self._overdue: _Step | None = None

    def expect(self, step: str, within_s: float) -> None:
        """The next step, and how many seconds it may take; the one before has ended."""
        now_s = self._clock.monotonic_s()
        self._step = _Step(step, now_s, now_s + within_s)

    def tell(self, *lines: str) -> None:
        """Send NAME=value lines."""
        if self._send is not None:
            self._send("\n".join(lines))

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Ready on entry, pings inside, stopping on exit."""
        if self._send is None:
            yield
            return
        self.tell("READY=1")
        pings = asyncio.create_task(self._ping_for_ever())
        try:
            yield
        finally:
            pings.cancel()
            self.tell("STOPPING=1")

    def ping(self) -> bool:
        """Send one sign of life, unless the step under way is overdue; says whether it was sent."""
        step = self._step
        if step is not None and self._clock.monotonic_s() > step.due_s:
            if self._overdue is not step:
                self._overdue = step
                log.error(
                    "No progress: %s was to take %.0f s at most; the watchdog is not told that this lives",
                    step.name,
                    step.due_s - step.began_s,
                )
                self.tell(f"STATUS=stuck: {step.name}"[:_MAX_STATUS_CHARACTERS])
            return False
        shown = [] if step is None else [f"STATUS={step.name}"[:_MAX_STATUS_CHARACTERS]]
        self.tell("WATCHDOG=1", *shown)
        return True

    async def _ping_for_ever(self) -> None:
        if self._period_s is None:
            return
        while True:
            self.ping()
            await self._clock.sleep(self._period_s / PINGS_A_PERIOD)


def open_watchdog(environment: MutableMapping[str, str], clock: Clock) -> Watchdog:
    """The watchdog that the service manager asks for in the environment.

    The variables are removed, so that no child process speaks for this one. One that is not ours (of another
    process, or no number) asks for nothing.
    """
    address = environment.pop(SOCKET_VARIABLE, "")
    period = environment.pop(PERIOD_VARIABLE, "")
    process = environment.pop(PROCESS_VARIABLE, "")
    if not address.startswith(("/", "@")):
        return Watchdog(None, None, clock)
    asked = period.isascii() and period.isdigit() and int(period) > 0 and process in {"", str(os.getpid())}
    return Watchdog(_datagrams(address), int(period) / 1e6 if asked else None, clock)


def _datagrams(address: str) -> Callable[[str], None]:
    """Send to a socket of the file system, or an abstract one (`@`); never wait for it."""
    where = "\0" + address[1:] if address.startswith("@") else address

    def send(message: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)
            try:
                line.sendto(message.encode(), where)
            except OSError as error:
                log.warning("The service manager could not be told %r: %s", message, error.strerror)

    return send
