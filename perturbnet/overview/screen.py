"""An overview on one screen of a terminal.

Text of a published log may be a stranger's: control characters, which a terminal would obey, are replaced,
and nothing is read as markup.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perturbnet.display.text import printable, short
from perturbnet.errors import Reject
from perturbnet.overview.views import Overview, RoundView, StandingView
from perturbnet.wire.units import from_ppb

SHOWN_MINERS = 10
SHOWN_CODES = 6


def render_overview(overview: Overview) -> RenderableType:
    """The whole screen."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, found in _facts(overview):
        facts.add_row(name, Text(printable(found)))
    return Group(facts, "", _standings(overview), "", _health(overview))


def ago(then_ms: int, now_ms: int) -> str:
    """How long ago, in the largest unit that says something."""
    seconds = max(0, now_ms - then_ms) // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _facts(overview: Overview) -> list[tuple[str, str]]:
    where = "running, state in" if overview.source == "validator" else "published log in"
    network = f"{overview.network}, netuid {overview.netuid}, block {overview.block:,}"
    model = f"{overview.model_name}, {overview.dataset} ({overview.dataset_rows:,} rows)"
    return [
        ("Validator", overview.hotkey or "not known yet"),
        ("", f"{where} {overview.place}"),
        ("Network", network),
        ("Model", f"{model}, version {overview.code_version}"),
        ("Log", _log(overview)),
        ("Rounds", _rounds(overview)),
        ("Last round", _round(overview.last_round, overview.made_ms)),
        ("Next weights", _next_weights(overview)),
        ("Last weights", _last_weights(overview)),
    ]


def _log(overview: Overview) -> str:
    published, anchor = overview.published_leaves, overview.anchor
    parts = [f"{overview.leaves:,} leaves, root {overview.root[:16]}"]
    parts.append("not published" if published is None else f"{published:,} published")
    parts.append(f"{anchor.size:,} anchored at block {anchor.block:,}" if anchor else "no anchor")
    return "; ".join(parts)


def _rounds(overview: Overview) -> str:
    drawn = f"epoch {overview.epoch}, {overview.epoch_cursor:,} of {overview.dataset_rows:,} rows drawn"
    return f"{overview.rounds:,}, of which {overview.counted_rounds:,} count; {drawn}"


def _round(found: RoundView | None, now_ms: int) -> str:
    if found is None:
        return "none closed yet"
    won = [answer for answer in found.answers if answer.reject == Reject.OK]
    text = f"{found.number}: {found.label!r}, {ago(found.created_ms, now_ms)}, block {found.block:,}"
    text += f"; {len(won)} of {found.asked} succeeded"
    if won:
        best = won[0]
        answer = f"({best.linf_u8}/255, {best.label_after!r})"
        text += f", best {from_ppb(best.score_ppb):.4f} by uid {best.uid} {answer}"
    return text


def _next_weights(overview: Overview) -> str:
    shares = ", ".join(f"uid {uid} {share / 1e7:.2f} %" for uid, share in overview.next_weights)
    return shares or f"none: {overview.next_weights_reason}"


def _last_weights(overview: Overview) -> str:
    found, accepted = overview.last_weights, overview.weights_accepted_block
    if found is None:
        return "none yet"
    text = f"after round {found.round}, block {found.block:,}: {found.outcome or 'not known yet'}"
    if found.outcome in {"rejected", "ambiguous"}:
        text += f" ({found.detail})"
    if accepted is not None:
        blocks = max(0, overview.block - accepted)
        text += f"; accepted {blocks:,} block{'s' * (blocks != 1)} ago"
    return text


def _standings(overview: Overview) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("uid", "hotkey", "counted", "success", "mean", "weight"):
        table.add_column(name, justify="left" if name == "hotkey" else "right", no_wrap=True)
    table.add_column("reject codes", overflow="fold")
    asked = [standing for standing in overview.standings if standing.asked]
    for standing in asked[:SHOWN_MINERS]:
        table.add_row(*(Text(printable(cell)) for cell in _row(standing)))
    if not asked:
        return Text("No miner was asked yet.")
    rest = len(asked) - SHOWN_MINERS
    return Group(table, Text(f"and {rest} more")) if rest > 0 else table


def _row(standing: StandingView) -> tuple[str, ...]:
    failed = {code: times for code, times in standing.rejects.items() if code != Reject.OK}
    codes = sorted(failed.items(), key=lambda item: -item[1])[:SHOWN_CODES]
    return (
        str(standing.uid),
        short(standing.hotkey),
        str(standing.processed),
        f"{standing.succeeded}/{standing.asked}",
        f"{from_ppb(standing.mean_ppb):.4f}",
        f"{standing.share_ppb / 1e7:.2f} %",
        ", ".join(f"{code} {times}" for code, times in codes) or "–",
    )


def _health(overview: Overview) -> RenderableType:
    if not overview.health:
        return Text("Health is the running validator's to say; this is its published log.", style="dim")
    table = Table.grid(padding=(0, 2))
    for found in overview.health:
        mark = Text("ok", style="green") if found.ok else Text("look", style="bold red")
        table.add_row(mark, Text(printable(found.name)), Text(printable(found.found)))
    return table
