"""Canonical JSON against RFC 8785's own vectors, and what hostile bytes may not do to it."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.wire import canonical_json
from perturbnet.wire.canonical_json import MAX_DEPTH, MAX_SAFE_INTEGER, NotCanonical, decode, digest, encode

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    value: Any = 0
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


class TestRfc8785:
    def test_keys_are_sorted_by_utf16_code_units(self) -> None:
        # Section 3.2.3: the emoji's first code unit (D83D) sorts before U+FB33, unlike its code point.
        given_order = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\xf6"]
        expected = ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]
        text = encode({key: number for number, key in enumerate(given_order)})
        assert list(json.loads(text)) == expected

    def test_the_sorted_sample_to_the_byte(self) -> None:
        # Appendix of the RFC's test data ("weird.json"), without its floats.
        value = {
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\n": "Newline",
            "1": "One",
            "\x80": "Control",
            "\U0001f602": "Smiley",
            "\xf6": "Latin Small Letter O With Diaeresis",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "</script>": "Browser Challenge",
        }
        assert encode(value).decode() == (
            '{"\\n":"Newline","\\r":"Carriage Return","1":"One","</script>":"Browser Challenge",'
            '"\x80":"Control","\xf6":"Latin Small Letter O With Diaeresis","\u20ac":"Euro Sign",'
            '"\U0001f602":"Smiley","\ufb33":"Hebrew Letter Dalet With Dagesh"}'
        )

    def test_string_escapes(self) -> None:
        # Section 3.2.2.2: the seven short escapes, lower-case \\u00xx for other controls, all else as it is.
        assert encode('\u20ac$\x0f\nA\'B"\\\\"/') == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()
        assert encode("\b\t\n\f\r") == b'"\\b\\t\\n\\f\\r"'
        assert encode("\x00\x1f\x7f\u2028") == '"\\u0000\\u001f\x7f\u2028"'.encode()

    def test_literals_and_no_white_space(self) -> None:
        assert encode({"literals": [None, True, False], "n": [0, -1]}) == (
            b'{"literals":[null,true,false],"n":[0,-1]}'
        )


class TestEncode:
    @given(_values)
    def test_decode_is_the_inverse(self, value: Any) -> None:
        data = encode(value)
        assert decode(data) == value
        assert json.loads(data) == value

    @given(st.dictionaries(st.text(max_size=3).filter(str.isprintable), st.integers(0, 9), min_size=2))
    def test_the_order_of_insertion_does_not_matter(self, value: dict[str, int]) -> None:
        backwards = dict(reversed(value.items()))
        assert encode(value) == encode(backwards)
        assert digest(value) == digest(backwards)

    @pytest.mark.parametrize(
        "value",
        [
            1.0,
            0.0,
            float("nan"),
            Decimal(1),
            b"x",
            {1, 2},
            object(),
            {"a": [1.5]},
            {1: "a"},
            {None: 1},
            {True: 1},
        ],
    )
    def test_what_has_no_canonical_form_is_refused(self, value: Any) -> None:
        with pytest.raises(NotCanonical):
            encode(value)

    @pytest.mark.parametrize("integer", [MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER])
    def test_the_largest_integers_pass(self, integer: int) -> None:
        assert decode(encode(integer)) == integer

    @pytest.mark.parametrize(("base", "power"), [(2, 53), (-2, 53), (10, 30), (10, 5000)])
    def test_integers_a_double_cannot_hold_are_refused(self, base: int, power: int) -> None:
        # 10**5000 cannot even be printed by Python; the refusal must not try.
        with pytest.raises(NotCanonical, match="beyond 2\\^53 - 1"):
            encode(base**power)

    @pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
    def test_a_lone_surrogate_is_refused(self, text: str) -> None:
        with pytest.raises(NotCanonical, match="surrogate"):
            encode(text)
        with pytest.raises(NotCanonical, match="surrogate"):
            encode({text: 1})

    def test_enumerations_are_their_values(self) -> None:
        code = StrEnum("code", {"OK": "ok"})
        number = IntEnum("number", {"TWO": 2})
        assert encode({code["OK"]: [code["OK"], number["TWO"]]}) == b'{"ok":["ok",2]}'

    def test_tuples_are_arrays(self) -> None:
        assert encode((1, (2,))) == b"[1,[2]]"  # type: ignore[arg-type]

    def test_depth_is_capped(self) -> None:
        assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
        with pytest.raises(NotCanonical, match="nested"):
            encode(nested(MAX_DEPTH + 1))

    def test_a_long_value_is_not_quoted_whole(self) -> None:
        with pytest.raises(NotCanonical) as caught:
            encode({"k": b"x" * 10_000})
        assert len(str(caught.value)) < 200


class TestDecode:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b" 1",
            b"1 ",
            b"1\n",
            b'{"a": 1}',
            b'{"b":1,"a":2}',
            b"01",
            b"-0",
            b"1.0",
            b"1e2",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"9007199254740992",
            b'"\\/"',
            b'"\\u0041"',
            b'"\\u000F"',
            b'"\\ud83d\\ude00"',
            b'"\\ud800"',
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b"\xef\xbb\xbf1",
            b'"\x01"',
            b"[1,]",
            b"{}x",
            b"'a'",
            "1".encode("utf-16"),
        ],
    )
    def test_another_spelling_is_refused(self, data: bytes) -> None:
        with pytest.raises(NotCanonical):
            decode(data)

    def test_a_duplicate_key_is_refused_by_name(self) -> None:
        with pytest.raises(NotCanonical, match="'a' appears twice"):
            decode(b'{"a":1,"a":1}')

    @pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 400, 600, 900, 5_000, 200_000])
    @pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"k":', b"}")])
    def test_depth_never_ends_in_a_recursion_error(self, levels: int, brackets: tuple[bytes, bytes]) -> None:
        # Between about 500 and 990 levels json.loads succeeded and the check that follows did not.
        opening, closing = brackets
        with pytest.raises(NotCanonical):
            decode(opening * levels + b"0" + closing * levels)

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"9" * 4_000, id="digits"),
            pytest.param(b"9" * 100_000, id="more digits than Python converts"),
            pytest.param(b"1." + b"0" * 100_000, id="float"),
            pytest.param(b'{"%s":1,"%s":1}' % (b"k" * 9_999, b"k" * 9_999), id="duplicate key"),
        ],
    )
    def test_hostile_bytes_make_a_short_message(self, data: bytes) -> None:
        with pytest.raises(NotCanonical) as caught:
            decode(data)
        assert len(str(caught.value)) < 200

    @given(st.binary(max_size=40))
    def test_any_bytes_are_decoded_or_refused(self, data: bytes) -> None:
        try:
            value = decode(data)
        except NotCanonical:
            return
        assert encode(value) == data

    @given(_values, st.data())
    def test_one_changed_byte_is_another_value_or_refused(self, value: Any, data: st.DataObject) -> None:
        text = bytearray(encode(value))
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] ^= data.draw(st.integers(1, 255))
        try:
            changed = decode(bytes(text))
        except NotCanonical:
            return
        assert json.dumps(changed) != json.dumps(value)


def test_digest_is_sha256_of_the_bytes() -> None:
    # echo -n '{"a":1}' | sha256sum
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert canonical_json.encode({"a": 1}) == b'{"a":1}'
