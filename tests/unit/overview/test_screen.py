"""The screen: what stands on it, that it fits one, and that a stranger's text cannot move a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from perturbnet.display.text import printable
from perturbnet.overview import HealthView, Overview
from perturbnet.overview.screen import ago, render_overview
from tests.support.overview.samples import ANSWER, HOSTILE, HOTKEY, OVERVIEW, ROUND, STANDING


def screen(overview: Overview, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(render_overview(overview))
    return out.getvalue()


def test_what_stands_on_it() -> None:
    text = screen(OVERVIEW)
    for found in (
        HOTKEY,
        "local, netuid 3, block 5,010",
        "1,234 leaves, root eeeeeeeeeeeeeeee; 1,200 published; 1,100 anchored at block 4,990",
        "42, of which 40 count; epoch 1, 42 of 1,200 rows drawn",
        "41: 'heron', 90 s ago, block 5,000; 1 of 2 succeeded",
        "best 0.9123 by uid 7 (2/255",
        "uid 7 100.00 %",
        "after round 40, block 4,980: committed; accepted 30 blocks ago",
        "39/41",
        "timeout 2",
        "look  chain  answered 400 s ago",
    ):
        assert found in text, found


@pytest.mark.parametrize("width", [80, 100])
def test_it_is_one_screen(width: int) -> None:
    many = tuple(replace(STANDING, uid=uid) for uid in range(256))
    text = screen(replace(OVERVIEW, standings=many, health=OVERVIEW.health * 5), width)
    assert len(text.splitlines()) <= 36
    assert "and 246 more" in text
    assert max(map(len, text.splitlines())) <= width


def test_a_new_log_has_a_screen_too() -> None:
    text = screen(
        replace(
            OVERVIEW,
            latest=(),
            standings=(),
            next_weights=(),
            last_weights=None,
            weights_accepted_block=None,
            anchor=None,
            published_leaves=None,
            hotkey="",
        )
    )
    for found in ("none closed yet", "No miner was asked", "no anchor", "not published", "none: 1 of 1 earn"):
        assert found in text


def test_a_strangers_text_is_only_text() -> None:
    answer = replace(ANSWER, label_after=HOSTILE)
    hostile = replace(
        OVERVIEW,
        hotkey=HOSTILE,
        network=HOSTILE,
        latest=(replace(ROUND, label=HOSTILE, answers=(answer,)),),
        standings=(replace(STANDING, hotkey=HOSTILE, rejects={HOSTILE: 1}),),
        health=(HealthView(HOSTILE, ok=True, found=HOSTILE),),
    )
    text = screen(hostile, 200)
    assert not set(text) & set("\x1b\x07\x9b\u202e\u2028")
    assert "[red]x[/red]" in text
    assert len(text.splitlines()) == len(screen(OVERVIEW, 200).splitlines())


def test_printable_keeps_letters() -> None:
    assert printable("Schäferhund 犬 – 2/255") == "Schäferhund 犬 – 2/255"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (172_800, "2 d ago")],
)
def test_ago(seconds: int, text: str) -> None:
    assert ago(0, seconds * 1000) == text
