"""What must hold of what a soak has left behind: the ledger, the miners' notes, the chain's.

Memory is `soak_memory`'s; that no record is lost at a kill, and that rounds go on, is seen while it runs.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from perturbnet.auditing.history import Expected
from perturbnet.auditing.run import Audit, Means, Scope
from perturbnet.chain import LocalChain, to_u16
from perturbnet.ledger import BlobStore, Entry, LedgerState, LedgerStore
from perturbnet.ledger.journal import DELTAS_FOLDER, LEDGER_FILE
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, SkipLeaf, SubmissionLeaf, WeightsLeaf
from perturbnet.rounds.terms import weigh
from tests.integration.soak_plan import Outcome, Plan
from tests.support.auditing.honest import MemoryLog
from tests.support.fakes import NETUID, BlockEngine, MemorySource


def check_all(plan: Plan, entries: list[Entry], hotkey: str, outcome: Outcome) -> None:
    """Everything that must hold of what was left behind."""
    check_rounds(entries, outcome)
    check_promises(plan, entries, outcome)
    check_weights(plan, entries, outcome)
    check_audit(plan, entries, hotkey)


def check_rounds(entries: list[Entry], outcome: Outcome) -> None:
    """No image twice, no draw left out, every challenge answered for all that it asked."""
    taken = [entry.leaf for entry in entries if isinstance(entry.leaf, ChallengeLeaf | SkipLeaf)]
    assert {leaf.epoch for leaf in taken} == {0}
    assert [leaf.draw for leaf in taken] == list(range(len(taken)))
    assert len({leaf.row for leaf in taken}) == len(taken), "an image came twice in an epoch"
    receipts = Counter(entry.leaf.challenge for entry in entries if isinstance(entry.leaf, ReceiptLeaf))
    challenges = [(entry.position, entry.leaf) for entry in entries if isinstance(entry.leaf, ChallengeLeaf)]
    open_round = folded(entries).open_round
    for position, leaf in challenges:
        if open_round is None or position != open_round.position:
            assert receipts[position] == len(leaf.asked)
    outcome.codes = dict(
        Counter(entry.leaf.reject for entry in entries if isinstance(entry.leaf, ReceiptLeaf))
    )


def check_promises(plan: Plan, entries: list[Entry], outcome: Outcome) -> None:
    """Every acknowledgement that a miner got names a leaf that is there."""
    lines = (plan.folder / "acknowledged.jsonl").read_text().splitlines()
    for line in lines:
        leaf, expected = json.loads(line)
        assert entries[leaf].hash == expected, f"leaf {leaf} was acknowledged and is another"
    outcome.acknowledged = len(lines)
    assert lines, "nothing was acknowledged: the check shows nothing"


def check_weights(plan: Plan, entries: list[Entry], outcome: Outcome) -> None:
    """Each vector is what the leaves before it give, and the chain took no other."""
    state, intended = LedgerState(), set()
    for entry in entries:
        if isinstance(entry.leaf, WeightsLeaf):
            assert state.rules is not None
            vector = weigh(state.standings(), state.rules[1])
            assert entry.leaf.shares_ppb == [[uid, share] for uid, share in vector.shares_ppb.items()]
            intended.add(json.dumps(sorted(to_u16(vector.shares_ppb).items())))
            outcome.intents += 1
        state.apply(entry)
    taken = (plan.folder / "submitted.jsonl").read_text().splitlines()
    assert set(taken) <= intended, "the chain took a vector that no leaf names"
    shown = asyncio.run(LocalChain(plan.folder / "chain.sqlite").weights(0)).weights
    assert json.dumps(sorted(to_u16(dict(shown)).items())) in intended
    outcome.submitted = len(taken)
    outcome.outcomes = dict(
        Counter(entry.leaf.outcome for entry in entries if isinstance(entry.leaf, SubmissionLeaf))
    )


def check_audit(plan: Plan, entries: list[Entry], hotkey: str) -> None:
    """A stranger who recomputes everything finds nothing."""
    source, engine = MemorySource(plan.rows), BlockEngine()
    expected = Expected(hotkey, NETUID, source.identity, engine.model_digest)
    log = MemoryLog(entries, BlobStore(plan.folder / "state" / DELTAS_FOLDER))
    audit = Audit(log, expected, Means(source, engine), Scope.whole(log.size))
    audit.run_history()
    audit.run_answers()
    assert audit.report.findings == [], [found.sentence() for found in audit.report.findings[:3]]


def folded(entries: list[Entry]) -> LedgerState:
    """The state after these entries."""
    state = LedgerState()
    for entry in entries:
        state.apply(entry)
    return state


def read(folder: Path) -> list[Entry]:
    """The ledger in a folder that nobody has open."""
    with LedgerStore(folder / LEDGER_FILE) as store:
        store.verify()
        return list(store.entries())
