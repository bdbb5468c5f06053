"""Who carries a round's messages: the seam to the transport, and what its errors mean to a round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from perturbnet.errors import PerturbError
from perturbnet.transport import Arrival, Delivery, Query
from perturbnet.wire.messages import Acknowledgement
from perturbnet.wire.target import Target


class Courier(Protocol):
    """Carries a round's messages: `transport.Client`, or its twin in memory."""

    async def query_round(
        self,
        targets: Sequence[Target],
        build: Query,
        *,
        deadline_s: float,
        on_arrival: Callable[[Arrival], Awaitable[None]],
        max_response_bytes: int | None = None,
    ) -> list[Arrival]:
        """Ask everyone at once; await `on_arrival` once for each, at the latest when the deadline passes."""

    async def send_acknowledgements(
        self, acknowledgements: Sequence[tuple[Target, Acknowledgement]], *, timeout_s: float = 5.0
    ) -> list[Delivery]:
        """Tell the miners what became of their answers, as far as they can be reached."""


def first_of_ours(group: ExceptionGroup[Exception]) -> Exception:
    """The first error of ours in a group, so that it ends the process with its own sentence and exit code."""
    for error in group.exceptions:
        found = first_of_ours(error) if isinstance(error, ExceptionGroup) else error
        if isinstance(found, PerturbError):
            return found
    return group
