"""The quick way of reading JSON says the same as the slow one, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet import protocol
from perturbnet.errors import MessageError
from perturbnet.protocol import read_json

PIECES = [
    *'{}[]:,"',
    '"a"',
    '"b":',
    '{"a":1}',
    "0",
    "-0",
    "01",
    "1.5",
    "-0.0",
    "1e5",
    "1E400",
    "1" * 32,
    "1" * 33,
    "0." + "1" * 40,
    "true",
    "null",
    "NaN",
    "-Infinity",
    " ",
    "\n",
    "\ufeff",
    "é",
    "\x7f",
    "\x1f",
]


def slowly(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "_read_plain", lambda _data, **_: None)
        return outcome(data)


def outcome(data: bytes) -> str:
    """The value with its types, or the fault."""
    try:
        return repr(read_json(data))
    except MessageError as error:
        return f"refused: {error.detail}"


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_both_ways_say_the_same(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert outcome(text.encode()) == slowly(text.encode(), patch)


@given(st.binary(max_size=30), st.integers(0, 40))
def test_both_ways_say_the_same_of_other_bytes(noise: bytes, place: int) -> None:
    data = b'{"a":[1,{"b":"text \xc3\xa9"}],"c":-1.5e3}'
    with pytest.MonkeyPatch.context() as patch:
        damaged = data[:place] + noise + data[place:]
        assert outcome(damaged) == slowly(damaged, patch)


def test_a_plain_message_is_read_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.loads", None)
    assert read_json(b'{"a":{"b":[1,"' + b"A" * 10**6 + b'"]},"c":0.5}')["c"] == 0.5


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":{"b":1,"b":1}}', "1e999", "[" + "1" * 33 + "]"])
def test_what_only_the_slow_way_can_judge_is_left_to_it(text: str) -> None:
    data = text.encode()
    assert protocol._read_plain(data, keys=protocol._check_structure(data)) is None
    assert outcome(data).startswith("refused")
