"""What was read of a refused answer is gone with the round, not when the collector comes by."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from perturbnet.errors import Reject
from perturbnet.transport import ClientLimits
from perturbnet.transport.exchange import _Incoming
from tests.unit.transport.peers import Script, ask, http, replying, writing

pytestmark = pytest.mark.anyio

LARGE = b"x" * 300_000


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
        (replying(b"[" + LARGE[:100_000]), Reject.BAD_MESSAGE),
    ],
)
async def test_a_refusal_leaves_nothing(script: Script, reject: Reject) -> None:
    arrival = await ask(script, limits=ClientLimits(max_response_bytes=200_000))
    assert arrival.reject == reject
    del arrival
    # Not isinstance: it asks every object in the process for its class, and some of them answer.
    assert not [item for item in gc.get_objects() if type(item) is _Incoming]
