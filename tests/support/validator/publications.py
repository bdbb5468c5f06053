"""A validator that publishes into a folder, on a chain of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perturbnet.chain import ChainRules, LocalChain
from perturbnet.config import load_settings
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import MetagraphLeaf
from perturbnet.transparency.anchors import (
    Anchor,
    read_commitment,
)
from perturbnet.transparency.signing import begin_log
from perturbnet.validator.publication import Publication, open_publication
from perturbnet.wire.keys import Keypair
from tests.support.fakes import VirtualClock
from tests.support.transparency.logs import hotkey

NETUID = 3
RULES = ChainRules(commit_reveal_enabled=True, tempo=20, reveal_period_epochs=2, immunity_period=0)
NOW = {"PERTURB_PUBLISH_DELAY_BLOCKS": "0", "PERTURB_ANCHOR_INTERVAL_BLOCKS": "1"}


def make_chain(path: Path, rules: ChainRules) -> LocalChain:
    made = LocalChain.create(path, netuid=NETUID, rules=rules, block_time_ms=0, clock=VirtualClock())
    asyncio.run(made.register(hotkey("alice").ss58_address, hotkey("cold").ss58_address, 10**12))
    return made


@pytest.fixture
def chain(tmp_path: Path) -> LocalChain:
    """A chain with sealed weights, on which the owner of a log is registered."""
    return make_chain(tmp_path / "chain.sqlite", RULES)


def live(
    folder: Path,
    chain: LocalChain,
    work: Callable[[Publication], Any],
    *,
    owner: str = "alice",
    **settings: str,
) -> Any:
    """A validator's process: open the log, check it, do some work on its publication, end."""

    async def main() -> Any:
        keypair: Keypair = hotkey(owner)
        journal = Journal(folder / "state")
        try:
            source = begin_log(
                journal, folder / "state", keypair, network="local", netuid=NETUID, clock=VirtualClock()
            )
            place = {"HOME": str(folder), "PERTURB_PUBLISH_TO": str(folder / "bundle")}
            loaded = load_settings({"NETWORK": "finney", **place, **settings}).settings
            publication = await open_publication(loaded, journal, chain, keypair, source)
            assert publication is not None
            return await work(publication)
        finally:
            journal.close()

    return asyncio.run(main())


async def write(publication: Publication, count: int = 1) -> None:
    """Leaves of the present block."""
    block = await publication.chain.block()
    for _ in range(count):
        size = publication.journal.state.size
        publication.journal.append(MetagraphLeaf(block, NETUID, [[0, f"hot{size}", "cold", 1, "", 0]]))


async def day(publication: Publication, steps: int = 40, blocks: int = 10) -> None:
    """Leaves, a publication and some blocks, again and again."""
    for _ in range(steps):
        await write(publication, 3)
        await publication.run()
        await publication.chain.advance(blocks)  # type: ignore[attr-defined]


def on_chain(chain: LocalChain) -> Anchor:
    found = read_commitment(asyncio.run(chain.commitment(hotkey("alice").ss58_address)))
    assert found is not None
    return found[0]
