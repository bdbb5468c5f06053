"""Run a local network from nothing to its table: what `perturb localnet` and `make demo` do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perturbnet.bootstrap.holdings import open_checked, open_manifest
from perturbnet.bootstrap.plan import BootstrapPlan as Preparation
from perturbnet.bootstrap.records import Workplace
from perturbnet.bootstrap.running import ensure
from perturbnet.chain import LocalChain, WeightsOnChain
from perturbnet.config import load_settings, registry
from perturbnet.datasets import ImageSource
from perturbnet.display.bars import Bars, open_bars
from perturbnet.errors import ConfigError, PerturbError
from perturbnet.ledger import BlobStore
from perturbnet.ledger.journal import BLOBS_FOLDER
from perturbnet.localnet.network import BLOCK_TIME_MS, RULES, LocalnetPlan, LocalNetwork
from perturbnet.localnet.report import MinerRow, draw_sheet, read_ledger, tabulate
from perturbnet.localnet.self_audit import SelfAudit, audit_itself
from perturbnet.miner.reserve import TimeToSearch
from perturbnet.runtime.progress import Stages

POLL_S = 0.2
PATIENCE_S = 180.0
SHEET_FILE = "contact-sheet.png"


@dataclass(frozen=True)
class LocalnetOutcome:
    """What came of it."""

    rows: list[MinerRow]
    sheet: Path | None
    folder: Path
    seconds: float
    audit: SelfAudit

    @property
    def weights_set(self) -> bool:
        """Whether the chain shows weights."""
        return any(row.weight > 0 for row in self.rows)


def run_localnet(plan: LocalnetPlan, console: Console) -> LocalnetOutcome:
    """Make the network, run its rounds, and report.

    Raises:
        PerturbError: a process ended that should not have, or nothing happened for too long.

    """
    started_s = time.monotonic()
    with open_bars(console=console, stays=True) as show:
        source = _prepare(plan, show)
        outcome = asyncio.run(_run(plan, source, show, started_s))
    _print(plan, outcome, console)
    return outcome


def _prepare(plan: LocalnetPlan, show: Bars) -> ImageSource:
    """Have what the processes will ask for: the manifest and all it names. Only what is rendered is made."""
    place = Workplace(plan.cache_dir.expanduser().absolute(), plan.profile)
    preparation = Preparation(place)
    if not preparation.from_hub:
        ensure(
            preparation,
            show=lambda standing, _: show("images", standing.rows_done, standing.rows_total),
        )
    source = open_checked(place, open_manifest(place))
    show("images", source.identity.rows, source.identity.rows)
    return source


async def _run(plan: LocalnetPlan, source: ImageSource, show: Bars, started_s: float) -> LocalnetOutcome:
    with LocalNetwork(plan) as network:
        chain = await network.create()
        network.start_miners()
        await _watch(network, show, "miners", plan.miners, network.miners_started)
        network.start_validator()
        await _watch(network, show, "rounds", plan.rounds, network.rounds_closed)
        show("weights on chain", 0, 1)
        shown = await _reveal(network, chain)
        show("weights on chain", 1, 1)
        network.stop()
        entries = read_ledger(network.state_dir)
        rows = tabulate(network, entries, shown)
        sheet = plan.folder / SHEET_FILE
        title = f"Perturb local network, {plan.profile} profile"
        drawn = draw_sheet(sheet, title, entries, source, BlobStore(network.state_dir / BLOBS_FOLDER))
        audit = await audit_itself(network, chain, source, _audit_bar(show))
    return LocalnetOutcome(rows, sheet if drawn else None, plan.folder, time.monotonic() - started_s, audit)


def _audit_bar(show: Bars) -> Stages:
    """Shows the rounds of an audit; its leaves take no time here."""

    def progress(what: str, done: int, of: int) -> None:
        if what == "rounds":
            show("audit", done, of)

    return progress


async def _watch(network: LocalNetwork, show: Bars, name: str, total: int, count: Callable[[], int]) -> None:
    """Show a bar until `count` reaches `total`; nothing may end or stall meanwhile."""
    show(name, 0, total)
    reached, since_s = 0, time.monotonic()
    while reached < total:
        network.check_alive()
        now = count()
        if now > reached:
            reached, since_s = now, time.monotonic()
            show(name, reached, total)
        if time.monotonic() - since_s > PATIENCE_S:
            raise PerturbError(
                f"{name}: {reached} of {total}, and nothing more for {PATIENCE_S:.0f} s",
                hint=f"see {network.plan.folder / 'logs'}",
            )
        await asyncio.sleep(POLL_S)


async def _reveal(network: LocalNetwork, chain: LocalChain) -> WeightsOnChain:
    """Wait until the validator has ended and the weights it committed are revealed."""
    blocks = (RULES.tempo + 1) * (RULES.reveal_period_epochs + 1) + 2
    until = time.monotonic() + blocks * BLOCK_TIME_MS / 1000 + 5
    process = network.validator.process
    while True:
        shown = await chain.weights(network.validator.uid)
        ended = process is None or process.poll() is not None
        if (ended and not shown.pending_commits) or time.monotonic() > until:
            return shown
        await asyncio.sleep(POLL_S)


def overrides_text(plan: LocalnetPlan) -> str:
    """The settings that differ from a live network's, for people."""
    defaults = {setting.name: setting.default for setting in registry()}
    short = ", ".join(
        f"{name.removeprefix('PERTURB_')}={text} ({defaults.get(name)})"
        for name, text in plan.shortened().items()
    )
    limit = f"weights rate limit {RULES.weights_rate_limit} (100)"
    chain = f"block time {BLOCK_TIME_MS / 1000:g} s (12), tempo {RULES.tempo} (360), {limit}"
    return f"Shortened for this run (live value in brackets): {short}; chain: {chain}"


def _print(plan: LocalnetPlan, outcome: LocalnetOutcome, console: Console) -> None:
    console.print(overrides_text(plan), style="dim", highlight=False)
    console.print(table_of(outcome.rows))
    state = "set" if outcome.weights_set else "NOT set"
    console.print(f"{plan.rounds} rounds in {outcome.seconds:.0f} s; weights are {state} on chain")
    console.print(f"Audit          {outcome.audit.line()}", soft_wrap=True, highlight=False)
    if outcome.sheet:
        console.print(f"Contact sheet  {outcome.sheet}", soft_wrap=True)
    console.print(f"Kept           {outcome.folder} (chain, wallets, ledger, bundle, logs)", soft_wrap=True)
    console.print(f"Look           perturb web {outcome.folder / 'bundle'}", soft_wrap=True, highlight=False)
    console.print(
        "Next           perturb attack PICTURE --profile reference   attack a picture of your own",
        soft_wrap=True,
    )


def table_of(rows: list[MinerRow]) -> Table:
    """The table that ends a run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("uid", "miner", "asked", "success", "mean score", "reject codes", "weight on chain"):
        table.add_column(name, justify="left" if name in {"miner", "reject codes"} else "right")
    for row in rows:
        codes = ", ".join(f"{code} {count}" for code, count in sorted(row.rejects.items()))
        table.add_row(
            str(row.uid),
            row.kind,
            str(row.asked),
            f"{row.succeeded}/{row.asked}",
            f"{row.mean_score:.3f}",
            codes or "–",
            f"{row.weight:.2%}",
        )
    return table


def outcome_json(plan: LocalnetPlan, outcome: LocalnetOutcome) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "miners": [asdict(row) for row in outcome.rows],
            "overrides": plan.shortened(),
            "rounds": plan.rounds,
            "seconds": round(outcome.seconds, 3),
            "weights_set": outcome.weights_set,
            "audit": {"passed": outcome.audit.passed, **outcome.audit.report.to_json()},
            "folder": str(outcome.folder),
            "contact_sheet": str(outcome.sheet) if outcome.sheet else None,
        },
        indent=2,
    )


def new_folder(base: Path) -> Path:
    """The next free numbered folder below `base`."""
    number = 1
    while (base / f"{number:03d}").exists():
        number += 1
    return base / f"{number:03d}"


def check_overrides(plan: LocalnetPlan) -> None:
    """Refuse settings that the processes would refuse, before anything starts.

    Raises:
        ConfigError: naming the setting.

    """
    named = {**plan.shortened(), "NETWORK": "local", "PERTURB_LOCAL_CHAIN": "chain.sqlite"}
    time = TimeToSearch.of(load_settings(named).settings)
    if time.none:
        reserve = f"{time.reserve_s.normalize():f} s (PERTURB_ANSWER_RESERVE_SECONDS)"
        allowed = f"more than {reserve}, or no miner searches"
        raise ConfigError("PERTURB_TIMEOUT_SECONDS", f"{time.timeout_s:f}", allowed)
