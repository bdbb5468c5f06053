"""Perturb without one of its defences: `pytest -p tests.support.defences --without ID` runs tests against
that.

Each function takes one row of docs/threat-model.md's defences out, as small as it can be, in this process
only. tests/unit/test_threat_model.py runs every row's test this way and demands that it fails.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Callable
from dataclasses import replace
from http.server import ThreadingHTTPServer
from typing import Any

import jinja2
import pytest

from perturbnet.chain.genesis import OneNetwork
from perturbnet.chain.rpc import Rpc
from perturbnet.errors import ImageError, Refused, Reject
from perturbnet.rounds import judging, receipts
from perturbnet.rules import selection, verification
from perturbnet.telemetry import loopback
from perturbnet.transport import NonceStore, client, connections, http_exchange, intake, server
from perturbnet.transport.authentication import MetagraphPermits
from perturbnet.web.guard import Guard
from perturbnet.wire import images, keys, messages, untrusted_json
from perturbnet.wire.addresses import PeerAddress

Patch = pytest.MonkeyPatch
REMOVERS: dict[str, Callable[[Patch], None]] = {}


def removes(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register what takes the defence of one row away."""

    def register(remove: Callable[[Patch], None]) -> Callable[[Patch], None]:
        REMOVERS[name] = remove
        return remove

    return register


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--without ID`."""
    parser.addoption("--without", choices=sorted(REMOVERS), required=True, help="row of docs/threat-model.md")


def pytest_configure(config: pytest.Config) -> None:
    """Take it away before the first test."""
    REMOVERS[config.getoption("--without")](pytest.MonkeyPatch())


# What miners send.


@removes("slow-answer")
def _(patch: Patch) -> None:
    async def wait(_expired: Any, work: Any) -> None:
        await asyncio.wait(work, timeout=6)
        for task in work:
            task.cancel()
        await asyncio.wait(work)

    patch.setattr(client, "_until", wait)


@removes("endless-answer")
def _(patch: Patch) -> None:
    patch.setattr(http_exchange, "_count", lambda *_: None)
    patch.setattr(http_exchange, "_take_body", lambda incoming, data: incoming.body.extend(data))


@removes("header-bomb")
def _(patch: Patch) -> None:
    patch.setattr(http_exchange, "_take_head", lambda incoming, head: setattr(incoming, "head", head))
    patch.setattr(client, "Caps", lambda body, _header: http_exchange.Caps(body, 2**30))


@removes("encoded-answer")
@removes("content-type")
def _(patch: Patch) -> None:
    patch.setattr(http_exchange, "_take_head", lambda incoming, head: setattr(incoming, "head", head))


@removes("redirect")
def _(patch: Patch) -> None:
    def complete(incoming: Any, head: Any, received_s: float) -> http_exchange.Reply:
        return http_exchange.Reply(list(head.headers), bytes(incoming.body), received_s)

    patch.setattr(http_exchange, "_complete", complete)


@removes("refusals-kept")
def _(patch: Patch) -> None:
    async def raised(self: Any, target: Any, query: Any, nonce_ns: int, expired: Any) -> Any:
        work = asyncio.create_task(self._client.ask(target, query, nonce_ns, self._caps))
        await client._until(expired, [work])
        try:
            return None if work.cancelled() else work.result()
        except Refused as refused:
            return refused

    patch.setattr(client._Round, "_reply", raised)


@removes("private-address")
def _(patch: Patch) -> None:
    patch.setattr(client, "check_address", lambda host, port, **_: PeerAddress(str(host), port))


@removes("json-bomb")
def _(patch: Patch) -> None:
    patch.setattr(untrusted_json, "_check_structure", lambda _data: -1)


@removes("replayed-answer")
def _(patch: Patch) -> None:
    patch.setattr(client.Client, "next_nonce", lambda _self: 5)


@removes("foreign-signature")
def _(patch: Patch) -> None:
    patch.setattr(keys, "verify", lambda *_: True)


@removes("other-task")
def _(patch: Patch) -> None:
    read = verification._read_message

    def believe(task: Any, body: bytes) -> Any:
        told = messages.parse(messages.AttackResponse, body, max_bytes=task.max_body_bytes)
        return read(replace(task, task_id=told.task_id, challenge_id=told.challenge_id), body)

    patch.setattr(verification, "_read_message", believe)


@removes("second-spelling")
def _(patch: Patch) -> None:
    patch.setattr(images, "decode_base64", base64.b64decode)


@removes("image-bomb")
def _(patch: Patch) -> None:
    def inflate(stream: bytes, length: int) -> bytes:
        whole = zlib.decompress(stream)
        if len(whole) > length:
            raise ImageError(Reject.PNG_BOMB, "too late")
        return whole

    patch.setattr(images, "_inflate", inflate)


@removes("other-pixels")
def _(patch: Patch) -> None:
    patch.setattr(verification, "_require_signed", lambda *_: None)


@removes("clean-image")
def _(patch: Patch) -> None:
    patch.setattr(verification, "linf_at_least", lambda *_: True)


@removes("identical-answers")
def _(patch: Patch) -> None:
    patch.setattr(receipts, "settle_duplicates", lambda scores, *_: dict(scores))


@removes("crowd")
def _(patch: Patch) -> None:
    begin = judging.Judging.__init__

    def begin_with_room_for_all(self: judging.Judging, *things: Any, **known: Any) -> None:
        begin(self, *things, **known)
        self._room = asyncio.Semaphore(10**6)

    patch.setattr(judging.Judging, "__init__", begin_with_room_for_all)


@removes("copies-cost-once")
def _(patch: Patch) -> None:
    numbers, read = iter(range(10**9)), receipts.read_answer

    def read_apart(*things: Any) -> Any:
        found = read(*things)
        return found._replace(digest=str(next(numbers))) if isinstance(found, verification.Image) else found

    patch.setattr(judging, "read_answer", read_apart)


@removes("one-operator")
def _(patch: Patch) -> None:
    choose = selection.candidates

    def all_of_them(metagraph: Any, own: str, rules: Any) -> Any:
        return choose(metagraph, own, replace(rules, group_by_coldkey=False))

    patch.setattr(selection, "candidates", all_of_them)


# What strangers send to miners, and nodes to everyone.


@removes("replayed-request")
def _(patch: Patch) -> None:
    patch.setattr(NonceStore, "check_and_store", lambda *_: True)


@removes("no-permit")
def _(patch: Patch) -> None:
    patch.setattr(MetagraphPermits, "allowed", lambda *_: True)


@removes("large-request")
def _(patch: Patch) -> None:
    stream = intake._stream
    patch.setattr(intake, "_stream", lambda request, _most: stream(request, 2**31))


@removes("slow-request")
def _(patch: Patch) -> None:
    guard = connections.guarded_protocol
    patch.setattr(server, "guarded_protocol", lambda **limits: guard(**{**limits, "head_timeout_s": 30.0}))


@removes("silent-node")
def _(patch: Patch) -> None:
    patch.setattr(Rpc, "_interface", lambda self, *way: super(Rpc, self)._interface(*way))


@removes("other-network")
def _(patch: Patch) -> None:
    patch.setattr(OneNetwork, "require", lambda *_: None)


# What this machine's browser can be made to do.


@removes("rebound-name")
def _(patch: Patch) -> None:
    class Every(frozenset[str]):
        def __contains__(self, _name: object) -> bool:
            return True

    patch.setattr(loopback, "allowed_hosts", lambda _port: Every())


@removes("idle-readers")
def _(patch: Patch) -> None:
    patch.setattr(loopback._Server, "process_request", ThreadingHTTPServer.process_request)


@removes("rebound-page")
def _(patch: Patch) -> None:
    patch.setattr(Guard, "_refusal", lambda *_: None)


@removes("hostile-text")
def _(patch: Patch) -> None:
    begin = jinja2.Environment.__init__

    def begin_trusting(self: Any, *things: Any, **known: Any) -> None:
        begin(self, *things, **{**known, "autoescape": False})

    patch.setattr(jinja2.Environment, "__init__", begin_trusting)
