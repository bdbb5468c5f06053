"""Making the log public: what is old enough is published, then anchored on chain.

Rules (docs/ledger.md)
- Nothing is published before the weights it led to are revealed: a leaf is old enough when so many blocks
  have passed since its block. Without a setting it is the reveal period, one epoch more than the runtime's
  number, because a commit waits for the end of its own epoch too. The log is cut between rounds.
- An anchor pins what is published, never more, so an auditor can always check it. It names the anchor before.
- When a validator starts, the chain is read first: a log that does not begin with the tree of the newest
  anchor is an older backup, or another log, and nothing is signed or appended.
- After an anchor that ended in doubt, the chain is read before the next one.
- A place that cannot be written is said in the log and tried again after the next round; a place or a chain
  that shows another history ends the validator.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from perturbnet.chain import Chain
from perturbnet.config import Settings
from perturbnet.errors import ChainError, LedgerError, LedgerForked
from perturbnet.ledger import Entry, forget_deltas
from perturbnet.ledger.journal import Journal
from perturbnet.ledger.leaves import ChallengeLeaf, Leaf, MetagraphLeaf, ReceiptLeaf, RulesLeaf, WeightsLeaf
from perturbnet.ledger.merkle import EMPTY_ROOT
from perturbnet.transparency.anchors import NO_PREVIOUS, Anchor, parse_anchor, read_commitment
from perturbnet.transparency.places import WritablePlace, open_target
from perturbnet.transparency.publishing import (
    LogSource,
    publish,
    published_checkpoint,
    unpublish_blobs,
    write_anchors,
)
from perturbnet.wire.keys import Keypair

log = logging.getLogger(__name__)


@dataclass
class Horizon:
    """How far the log is old enough. Each leaf is looked at once; no cut goes through a round."""

    looked_at: int = 0
    newest_block: int = 0
    cuts: deque[tuple[int, int]] = field(default_factory=deque)

    def look(self, entries: Iterable[Entry]) -> None:
        """Take in the leaves from `looked_at` on."""
        for entry in entries:
            if not isinstance(entry.leaf, ReceiptLeaf):
                self.cuts.append((entry.position, self.newest_block))
            self.newest_block = max(self.newest_block, block_of(entry.leaf))
            self.looked_at = entry.position + 1

    def size_at(self, block: int, *, round_is_open: bool) -> int:
        """The largest cut between rounds before which no leaf is newer than `block`; blocks may only grow."""
        if not round_is_open and self.newest_block <= block:
            self.cuts.clear()
            return self.looked_at
        while len(self.cuts) > 1 and self.cuts[1][1] <= block:
            self.cuts.popleft()
        return self.cuts[0][0] if self.cuts and self.cuts[0][1] <= block else 0


@dataclass
class Publication:
    """Publishes and anchors one validator's log."""

    journal: Journal
    chain: Chain
    keypair: Keypair
    source: LogSource
    target: WritablePlace
    url: str = ""
    delay_blocks: int | None = None
    anchor_interval_blocks: int = 100
    keep_deltas_rounds: int = 0  # 0: for ever
    horizon: Horizon = field(default_factory=Horizon)
    size: int = 0  # what is published

    async def check(self) -> None:
        """Refuse to go on with a log that the chain or the place contradicts.

        Raises:
            LedgerForked: it does not extend the newest anchor, or what is published.
            ChainError: the chain cannot be read.

        """
        await take_up_anchor(self.journal, self.chain, self.keypair.ss58_address)
        found = await asyncio.to_thread(published_checkpoint, self.source, self.target)
        self.size = found.size if found else 0

    async def run(self) -> None:
        """Publish what has become old enough, and anchor it when that is due.

        Raises:
            LedgerForked: the chain or the place shows a history that is not this log's.

        """
        try:
            block = await self.chain.block()
            await self._publish(block - await read_delay(self.chain, self.delay_blocks))
            await self._anchor(block)
            await asyncio.to_thread(forget_old_deltas, self.journal, self.keep_deltas_rounds, self.target)
        except LedgerForked:
            raise
        except LedgerError as error:
            log.error("Not published: %s", error.diagnostics())
        except ChainError as error:
            log.warning("Not anchored: %s", error.diagnostics())

    async def _publish(self, block: int) -> None:
        state, store = self.journal.state, self.journal.store
        await asyncio.to_thread(self.horizon.look, store.entries(self.horizon.looked_at))
        size = self.horizon.size_at(block, round_is_open=state.open_round is not None)
        if size <= self.size:
            return
        found = await asyncio.to_thread(
            publish, self.source, self.target, size, anchors=known_anchors(self.journal)
        )
        self.size = found.size
        log.info("Published %d of %d leaves in %s", found.size, store.size, self.target)

    async def _anchor(self, block: int) -> None:
        anchors = known_anchors(self.journal)
        last = anchors[-1] if anchors else None
        if self.size <= (last.size if last else 0):
            return
        if last is not None and block - last.block < self.anchor_interval_blocks:
            return
        last = await take_up_anchor(self.journal, self.chain, self.keypair.ss58_address) or last
        root = self.source.root_at(self.size)
        anchor = Anchor(self.chain.netuid, self.size, root, last.digest if last else NO_PREVIOUS)
        fields = [anchor.payload(), *([self.url.encode()] if self.url else [])]
        written = await self.chain.set_commitment(self.keypair, *fields)
        self.journal.store.note_anchor(written, anchor.payload())
        await asyncio.to_thread(write_anchors, self.target, known_anchors(self.journal))
        log.info("Anchored %d leaves at block %d", anchor.size, written)


async def open_publication(
    settings: Settings, journal: Journal, chain: Chain, keypair: Keypair, source: LogSource
) -> Publication | None:
    """Check the log against the chain and the published one; None when it is not to be published.

    Raises:
        LedgerForked: the chain or the place shows a history that is not this log's.
        ChainError: the chain cannot be read.

    """
    if settings.publish_to is None:
        await take_up_anchor(journal, chain, keypair.ss58_address)
        return None
    publication = Publication(
        journal,
        chain,
        keypair,
        source,
        open_target(settings.publish_to),
        url=settings.publish_url or "",
        delay_blocks=settings.publish_delay_blocks,
        anchor_interval_blocks=settings.anchor_interval_blocks,
        keep_deltas_rounds=settings.keep_deltas_rounds,
    )
    await publication.check()
    return publication


async def read_delay(chain: Chain, delay_blocks: int | None) -> int:
    """How many blocks a leaf is held back: the setting, or the chain's reveal period."""
    if delay_blocks is not None:
        return delay_blocks
    rules = await chain.hyperparameters()
    return (rules.reveal_period_epochs + 1) * rules.tempo if rules.commit_reveal_enabled else 0


def forget_old_deltas(journal: Journal, keep_rounds: int, target: WritablePlace | None = None) -> None:
    """Forget the deltas of old rounds, here and where they are published; 0 keeps all."""
    if not keep_rounds or journal.state.open_round is not None:
        return
    forgotten = forget_deltas(journal.store, journal.deltas, keep_rounds=keep_rounds)
    if target is not None:
        unpublish_blobs(target, forgotten)


async def take_up_anchor(journal: Journal, chain: Chain, hotkey: str) -> Anchor | None:
    """Compare the log with the newest anchor on chain, and note that one if a crash had left it out.

    Raises:
        LedgerForked: the log does not begin with the tree that the anchor pins.
        ChainError: the chain cannot be read.

    """
    found = read_commitment(await chain.commitment(hotkey))
    if found is None:
        return None
    anchor = found[0]
    if anchor.netuid != chain.netuid:
        raise LedgerForked(f"the anchor of {hotkey} is of netuid {anchor.netuid}, not {chain.netuid}")
    store = journal.store
    root = EMPTY_ROOT if anchor.size == 0 else None
    if root is None and anchor.size <= store.size:
        root = store.subtree(0, anchor.size)
    if root != anchor.root:
        pinned = f"{anchor.size} leaves with the root {anchor.root.hex()[:16]} (block {anchor.block})"
        raise LedgerForked(
            f"the chain pins {pinned}; this ledger has {store.size} and does not begin with them",
            hint="it is an older backup or another log: restore the newest, or begin with another hotkey",
        )
    known = known_anchors(journal)
    if not known or known[-1].digest != anchor.digest:
        if known and anchor.previous != known[-1].digest:
            log.warning("The chain's anchor does not follow the last one that this ledger knows")
        store.note_anchor(anchor.block, anchor.payload())
    return anchor


def known_anchors(journal: Journal) -> list[Anchor]:
    """The anchors this ledger has noted, the oldest first."""
    return [parse_anchor(payload, block) for block, payload in journal.store.anchors()]


def block_of(leaf: Leaf) -> int:
    """The block a leaf was written at, as far as it says; 0 where it does not."""
    match leaf:
        case ChallengeLeaf() | ReceiptLeaf() | WeightsLeaf() | MetagraphLeaf():
            return leaf.block
        case RulesLeaf():
            return leaf.activation_block
    return 0
