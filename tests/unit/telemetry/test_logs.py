"""Log lines: text for people, one JSON object each for machines; no peer's text breaks out of its line."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator

import pytest

from perturbnet.telemetry import QUIET, setup_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in quiet.items():
        logging.getLogger(name).setLevel(old)


@pytest.fixture
def tokyo() -> Iterator[None]:
    """A clock on the wall that is nine hours ahead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


def now_utc() -> tuple[str, str]:
    return (
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 60)),
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime()),
    )


@pytest.mark.usefixtures("tokyo")
def test_lines_are_in_utc_and_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("DEBUG", "text")
    logging.getLogger("validator").debug("hello")
    logging.getLogger("PIL").info("chatter")
    logging.getLogger("PIL").warning("worth it")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ DEBUG   validator: hello", first)
    assert first.startswith(now_utc())
    assert second.endswith("WARNING PIL: worth it")


def test_the_level_holds_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("ERROR", "text")
    logging.getLogger("PIL").warning("not this")
    logging.getLogger("validator").warning("nor this")
    logging.getLogger("validator").error("this")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("tokyo")
def test_outside_a_terminal_each_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("INFO")
    logging.getLogger("validator").info("Round %d closed", 7)
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("validator").exception("odd")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert {**first, "time": ""} == {
        "time": "",
        "level": "INFO",
        "logger": "validator",
        "message": "Round 7 closed",
    }
    assert first["time"].startswith(now_utc())
    assert first["time"].endswith("+00:00")
    assert second["error"].endswith("ValueError: a\nb")


def test_at_a_terminal_auto_is_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    setup_logging("INFO")
    logging.getLogger("validator").info("hello")
    assert capsys.readouterr().err.endswith("INFO    validator: hello\n")


HOSTILE = "offline\n2026-01-01T00:00:00Z INFO    validator: Round 9 closed\x1b[2J\u2028\x85"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_peers_text_stays_in_its_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("INFO", form)
    logging.getLogger("validator").info("uid 3: %s", HOSTILE)
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert "\x1b" not in written
    if form == "json":
        assert json.loads(written)["message"].endswith(HOSTILE)
    else:
        assert r"offline\x0a2026" in written
