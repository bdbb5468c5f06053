"""An overview as a validator shows it, and text as a stranger might write it."""

from __future__ import annotations

from perturbnet.overview import AnswerView, HealthView, Overview, RoundView
from perturbnet.overview.views import AnchorView, StandingView, WeightsView

HOTKEY = "5G4eRrg2qQXWVyZ9jF5pjWeSTJRsabsSFV1Q4eHJbbRZp8f1"
ANSWER = AnswerView(
    7, HOTKEY, "ok", 912_345_678, 900, "otter", 2, 99, 10**9, 46_000_000, "a" * 64, "b" * 64, -1
)
ROUND = RoundView(41, 900, 5000, 1_000_000, "0-41", "heron", "0.07", 3, {}, "c" * 64, 2, True, (ANSWER,))
STANDING = StandingView(7, HOTKEY, 40, 41, 39, 40, 812_345_678, 10**9, {"ok": 39, "timeout": 2})
OVERVIEW = Overview(
    source="validator",
    place="here",
    made_ms=1_090_000,
    hotkey=HOTKEY,
    network="local",
    netuid=3,
    code_version="0.1.0",
    model_name="net",
    dataset="tests/memory",
    dataset_rows=1200,
    protocol_fingerprint="d" * 64,
    leaves=1234,
    root="e" * 64,
    published_leaves=1200,
    anchor=AnchorView(4990, 1100, "f" * 64),
    epoch=1,
    epoch_cursor=42,
    rounds=42,
    counted_rounds=40,
    history_size=50,
    min_processed=50,
    block=5010,
    latest=(ROUND,),
    standings=(STANDING,),
    series=(),
    next_weights=((7, 10**9),),
    next_weights_reason="1 of 1 earn",
    last_weights=WeightsView(1000, 40, 4980, ((7, 10**9),), "1 of 1 earn", "committed", "0xabc"),
    weights_accepted_block=4980,
    health=(HealthView("chain", ok=False, found="answered 400 s ago"),),
)


HOSTILE = "\x1b]0;owned\x07[red]x[/red]\n\u202eabc\u2028\x9b2J"
