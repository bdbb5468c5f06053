"""Hostile JSON: bombs are refused quickly, by name; the quick way of reading says what the slow one says."""

from __future__ import annotations

import json
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import MessageError, Reject
from perturbnet.wire import untrusted_json
from perturbnet.wire.untrusted_json import MAX_DEPTH, read_json

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
        patch.setattr(untrusted_json, "_read_plain", lambda _data, **_: None)
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
    assert untrusted_json._read_plain(data, keys=untrusted_json._check_structure(data)) is None
    assert outcome(data).startswith("refused")


BOMBS: dict[str, bytes] = {
    "deep arrays": b'{"a":' + b"[" * 500_000,
    "deep objects": b'{"a":' * 200_000,
    "just too deep": b"[[[[]]]]",
    "many values": b"[" + b"1," * 400_000 + b"1]",
    "many keys": b"{" + b",".join(b'"%d":1' % i for i in range(50_000)) + b"}",
    "a huge integer": b'{"a":' + b"9" * 500_000 + b"}",
    "a huge float": b'{"a":1e400}',
    "a long float": b'{"a":0.' + b"1" * 100_000 + b"}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "a duplicate key": b'{"a":1,"a":2}',
    "a duplicate key further in": b'{"a":{"b":1,"b":1}}',
    "a duplicate key by escape": b'{"a":1,"\\u0061":2}',
    "an unterminated string": b'"' + b'\\"' * 500_000,
    "quotes": b'"' * 1_000_001,
    "backslashes": b'"' + b"\\" * 1_000_001,
    "nothing": b"",
    "spaces": b" " * 1_000_000,
    "two values": b"{} {}",
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a control character": b'{"a":"\n"}',
    "a comment": b"{} // nothing",
    "compressed": zlib.compress(b"{}"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_json_bomb_is_refused_quickly(name: str) -> None:
    started = time.process_time()
    with pytest.raises(MessageError) as caught:
        read_json(BOMBS[name])
    assert caught.value.reject is Reject.BAD_MESSAGE
    assert time.process_time() - started < 0.5
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize("text", ['"[[[[[', "\\", '\\"', "[" * 1000, '","' * 100, "\\" * 999 + '"'])
def test_what_stands_in_a_string_is_not_structure(text: str) -> None:
    assert read_json(json.dumps({"a": [{"b": text}]}).encode()) == {"a": [{"b": text}]}


def test_a_large_image_is_read() -> None:
    message = read_json(json.dumps({"task_id": "1", "perturbed_image_b64": "A" * (5 << 20)}).encode())
    assert len(message["perturbed_image_b64"]) == 5 << 20


_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def _depth(value: Any) -> int:
    if isinstance(value, (list, dict)):
        return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(_values, st.booleans())
def test_reading_agrees_with_the_standard_library(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    if _depth(value) > MAX_DEPTH:
        with pytest.raises(MessageError, match="nested"):
            read_json(data)
    else:
        assert read_json(data) == json.loads(text)
