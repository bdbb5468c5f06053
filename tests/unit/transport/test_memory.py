"""What was read of a refused answer is gone with the round, not when the collector comes by."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import cast

import pytest
from starlette.requests import Request

from perturbnet.errors import Reject
from perturbnet.transport import ClientLimits, intake
from perturbnet.transport.http_exchange import _Incoming
from tests.support.transport.peers import Script, ask, http, replying, verdict_on, writing

pytestmark = pytest.mark.anyio

LARGE = b"x" * 300_000


class Dripping:
    """A request whose body comes in pieces of two bytes."""

    async def stream(self) -> AsyncIterator[bytes]:
        for number in range(len(LARGE) // 2):
            yield bytes((number % 251, 1))


async def test_a_body_in_tiny_pieces_takes_no_more_than_its_bytes() -> None:
    tracemalloc.start()
    try:
        body = await intake._stream(cast("Request", Dripping()), len(LARGE))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) == len(LARGE)
    assert peak < 4 * len(LARGE)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("script", "reject"),
    [
        (writing(http(LARGE)), Reject.BODY_TOO_LARGE),
        (writing(http(LARGE[:150_000])[:100_000]), Reject.OFFLINE),
        (writing(http(LARGE, "404 Not Found")), Reject.HTTP_ERROR),
        (replying(b"[" + LARGE[:100_000]), Reject.OK),  # refused once it is parsed, below
    ],
)
async def test_a_refusal_leaves_nothing(script: Script, reject: Reject) -> None:
    arrival = await ask(script, limits=ClientLimits(max_response_bytes=200_000))
    assert arrival.reject == reject
    assert arrival.body is None or verdict_on(arrival).reject is Reject.BAD_MESSAGE
    del arrival
    # Not isinstance: it asks every object in the process for its class, and some of them answer.
    assert not [item for item in gc.get_objects() if type(item) is _Incoming]
