"""Each kind takes what it says it takes, exactly, and refuses the rest with ValueError alone."""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.config import registry
from perturbnet.config.kinds import Choice, Flag, Integer, IpAddress, Kind, Location, Number, Text

KINDS: list[Kind] = [
    Integer(-5, 70),
    Number("0", "1"),
    Flag(),
    Text(),
    Choice(("a", "b")),
    Location(),
    IpAddress(),
    *[setting.kind for setting in registry()],
]


@given(st.integers(), st.integers(-100, 100), st.integers(-100, 100))
def test_integer_takes_its_range(value: int, low: int, high: int) -> None:
    kind = Integer(min(low, high), max(low, high))
    if min(low, high) <= value <= max(low, high):
        assert kind.parse(str(value)) == value
    else:
        with pytest.raises(ValueError):  # noqa: PT011 - its text is only the value
            kind.parse(str(value))


@pytest.mark.parametrize(
    "text", ["", "1.0", "1e3", "+1", " 1", "1_0", "0x1", "١", "1\n", "--1", "9" * 5000, "true"]
)
def test_integer_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text[:10]) or "^$"):
        Integer(-(10**17), 10**17).parse(text)


@given(st.decimals(0, 1000, places=6))
def test_number_is_kept_exactly_and_never_scientific(value: Decimal) -> None:
    found = Number("0", "1000").parse(f"{value:f}")
    assert found == value
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(found))


@pytest.mark.parametrize(
    "text",
    ["", ".5", "1.", "1e-3", "inf", "nan", "-0.1", "1.0001", "0,5", "0.0000001", "٠.٥", "0.5\n", "9" * 13],
)
def test_number_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is only the value
        Number("0", "1").parse(text)


def test_number_keeps_its_places_and_has_no_negative_zero() -> None:
    assert str(Number("0", "1").parse("0.20")) == "0.20"
    assert str(Number("0", "1").parse("-0.0")) == "0"


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on"])
def test_flag_true(text: str) -> None:
    assert Flag().parse(text) is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "off"])
def test_flag_false(text: str) -> None:
    assert Flag().parse(text) is False


@pytest.mark.parametrize("text", ["", "2", "tru", "enabled", "y"])
def test_flag_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is only the value
        Flag().parse(text)


@given(st.ip_addresses())
def test_address_takes_every_address(address: IPv4Address | IPv6Address) -> None:
    assert IpAddress().parse(str(address)) == str(address)


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "localhost", "::g", "1.2.3.4:80", "01.2.3.4"]
)
def test_address_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is only the value
        IpAddress().parse(text)


def test_location() -> None:
    assert Location().parse("a/b") == Path("a/b")
    assert Location().parse("~/x") == Path.home() / "x"


@pytest.mark.parametrize("text", ["", "a\x00b", "a\nb", "~nobody-of-this-name/x"])
def test_location_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is only the value
        Location().parse(text)


def test_choice() -> None:
    assert Choice(("a", "b")).parse("b") == "b"
    for text in ("", "c", "A", "a, b"):
        with pytest.raises(ValueError):  # noqa: PT011 - its text is only the value
            Choice(("a", "b")).parse(text)


@given(st.sampled_from(KINDS), st.text())
def test_any_text_is_taken_or_refused_with_value_error(kind: Kind, text: str) -> None:
    try:
        kind.parse(text)
    except ValueError:
        return
    assert text


@given(st.sampled_from(registry()))
def test_every_default_is_allowed_and_described(setting: object) -> None:
    assert hasattr(setting, "kind")
    assert setting.kind.allowed
    if setting.default is not None:  # type: ignore[attr-defined]
        setting.kind.parse(setting.default)  # type: ignore[attr-defined]
