"""What a local network did, read from the validator's ledger and the chain: a table, and a picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from perturbnet.chain import WeightsOnChain
from perturbnet.datasets import ImageSource
from perturbnet.display.contact_sheet import SheetEntry, write_contact_sheet
from perturbnet.errors import Reject
from perturbnet.ledger import BlobStore, Entry, LedgerStore
from perturbnet.ledger.journal import LEDGER_FILE
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.localnet.network import LocalNetwork
from perturbnet.rounds.challenges import clean_image
from perturbnet.wire.images import decode_base64, decode_png
from perturbnet.wire.messages import AttackResponse, parse
from perturbnet.wire.units import from_ppb

MAX_SHEET_ROWS = 8
MAX_BODY_BYTES = 2**31


@dataclass(frozen=True)
class MinerRow:
    """One line of the table."""

    uid: int
    kind: str
    asked: int
    succeeded: int
    mean_score: float
    rejects: dict[str, int]
    weight: float


def read_ledger(state_dir: Path) -> list[Entry]:
    """All leaves of the validator's log."""
    with LedgerStore(state_dir / LEDGER_FILE) as store:
        return list(store.entries())


def tabulate(network: LocalNetwork, entries: list[Entry], shown: WeightsOnChain) -> list[MinerRow]:
    """One row for each miner, by uid."""
    receipts = [entry.leaf for entry in entries if isinstance(entry.leaf, ReceiptLeaf)]
    weights = dict(shown.weights)
    total = sum(weights.values()) or 1
    rows = []
    for member in network.members[1:]:
        mine = [receipt for receipt in receipts if receipt.uid == member.uid]
        codes = Counter(receipt.reject for receipt in mine)
        rows.append(
            MinerRow(
                uid=member.uid,
                kind=member.kind,
                asked=len(mine),
                succeeded=codes.pop(Reject.OK, 0),
                mean_score=from_ppb(sum(receipt.score_ppb for receipt in mine)) / max(1, len(mine)),
                rejects=dict(codes),
                weight=weights.get(member.uid, 0) / total,
            )
        )
    return rows


def draw_sheet(path: Path, title: str, entries: list[Entry], source: ImageSource, blobs: BlobStore) -> int:
    """Write the contact sheet of the latest successes; returns how many rows it has."""
    by_position = {entry.position: entry.leaf for entry in entries}
    won = [
        entry.leaf
        for entry in entries
        if isinstance(entry.leaf, ReceiptLeaf) and entry.leaf.reject == Reject.OK
    ]
    rows = []
    for receipt in _one_a_round(won)[-MAX_SHEET_ROWS:]:
        challenge = by_position[receipt.challenge]
        if isinstance(challenge, ChallengeLeaf):
            rows.append(_sheet_entry(receipt, challenge, source, blobs))
    if rows:
        write_contact_sheet(path, rows, title)
    return len(rows)


def _one_a_round(receipts: list[ReceiptLeaf]) -> list[ReceiptLeaf]:
    """The best receipt of each round."""
    best: dict[int, ReceiptLeaf] = {}
    for receipt in receipts:
        if receipt.round not in best or receipt.score_ppb > best[receipt.round].score_ppb:
            best[receipt.round] = receipt
    return [best[number] for number in sorted(best)]


def _sheet_entry(
    receipt: ReceiptLeaf, challenge: ChallengeLeaf, source: ImageSource, blobs: BlobStore
) -> SheetEntry:
    body = parse(AttackResponse, blobs.get(receipt.body), max_bytes=MAX_BODY_BYTES)
    return SheetEntry(
        clean=clean_image(source.read(challenge.row), challenge.freshness),
        adversarial=decode_png(decode_base64(body.perturbed_image_b64 or "")),
        label_before=receipt.label_before,
        label_after=receipt.label_after,
        linf_u8=receipt.linf_u8,
        changed=receipt.changed,
        score=from_ppb(receipt.score_ppb),
        miner=f"uid {receipt.uid}",
    )
