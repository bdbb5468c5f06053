"""Leaves and whole logs to test with: plain leaves, arbitrary ones, and random but valid sequences."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from perturbnet.errors import LedgerCorrupt, Reject
from perturbnet.ledger import Entry, Leaf, LedgerState, leaf_hash
from perturbnet.ledger.leaves import (
    CertificateLeaf,
    ChallengeLeaf,
    ConfigLeaf,
    EpochLeaf,
    GenesisLeaf,
    KeyLeaf,
    MetagraphLeaf,
    ReceiptLeaf,
    RulesLeaf,
    SegmentLeaf,
    SkipLeaf,
    SubmissionLeaf,
    WeightsLeaf,
    _hints,
)
from perturbnet.rules.traversal import commit_to_keys, segment_key

KINDS: tuple[type[Leaf], ...] = (
    GenesisLeaf,
    KeyLeaf,
    ConfigLeaf,
    RulesLeaf,
    EpochLeaf,
    SegmentLeaf,
    SkipLeaf,
    MetagraphLeaf,
    ChallengeLeaf,
    ReceiptLeaf,
    WeightsLeaf,
    SubmissionLeaf,
    CertificateLeaf,
)
SECRET = b"\x07" * 32

_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    origin = getattr(hint, "__origin__", None)
    if origin is list:
        return st.lists(_values(hint.__args__[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_TEXTS, _values(hint.__args__[1]), max_size=3)
    if hint is int:
        return _INTEGERS
    if hint is str:
        return _TEXTS
    return _INTEGERS | _TEXTS


def any_leaf(kind: type[Leaf]) -> st.SearchStrategy[Leaf]:
    """Any leaf of a kind."""
    return st.builds(kind, **{name: _values(hint) for name, hint in _hints(kind.kind).items()})


def plain(kind: type[Leaf], **values: Any) -> Any:
    """A leaf whose fields are 0, empty, or as given."""
    empty: dict[str, Any] = {}
    for name, hint in _hints(kind.kind).items():
        empty[name] = getattr(hint, "__origin__", hint)()
    return kind(**{**empty, **values})


def skip(number: int, reason: str = "x") -> SkipLeaf:
    return SkipLeaf(0, number, number, reason)


def rules(history_size: int = 3) -> RulesLeaf:
    leaf: RulesLeaf = plain(RulesLeaf, version=1, history={"history_size": history_size})
    return leaf


def metagraph(**hotkeys: str) -> MetagraphLeaf:
    """`metagraph(u1="alice")`: uid 1 is held by alice."""
    neurons: list[list[int | str]] = [
        [int(uid[1:]), hotkey, f"cold-{hotkey}", 0, "192.0.2.1", 8091] for uid, hotkey in hotkeys.items()
    ]
    return MetagraphLeaf(100, 1, neurons)


def epoch(number: int = 0, *, rows: int = 12, draws: int = 5, fingerprint: str = "f0") -> EpochLeaf:
    """An epoch of short segments, under SECRET."""
    count = -(-rows // draws)
    return EpochLeaf(number, fingerprint, rows, draws, commit_to_keys(SECRET, 720 * count)[:count], "first")


def segment(number: int, *, of_epoch: int = 0) -> SegmentLeaf:
    return SegmentLeaf(of_epoch, number, segment_key(SECRET, number).hex())


def certificate(log: Log, **values: Any) -> CertificateLeaf:
    """A certificate about the whole log so far."""
    size = len(log.entries)
    leaf: CertificateLeaf = plain(CertificateLeaf, envelope=f"{size:064x}", until=size, key=log.state.key)
    return replace(leaf, **values)


@dataclass
class Log:
    """A log in memory with its state folded as it grows."""

    entries: list[Entry] = field(default_factory=list)
    state: LedgerState = field(default_factory=LedgerState)

    def add(self, *leaves: Leaf) -> Entry:
        """Append and fold; returns the last entry."""
        for leaf in leaves:
            entry = Entry(len(self.entries), leaf_hash(leaf.encode()), leaf)
            self.state.apply(entry)
            self.entries.append(entry)
        return self.entries[-1]

    def challenge(self, *asked: int, **values: Any) -> ChallengeLeaf:
        """The challenge that can come next."""
        state = self.state
        leaf: ChallengeLeaf = plain(
            ChallengeLeaf,
            round=state.rounds,
            config=state.config[0] if state.config else 0,
            rules=state.rules[0] if state.rules else 0,
            metagraph=state.metagraph[0] if state.metagraph else 0,
            epoch=state.epoch.leaf.epoch if state.epoch else 0,
            draw=state.epoch.cursor if state.epoch else 0,
            nonce=f"{len(self.entries):064x}",
            asked=list(asked),
        )
        return replace(leaf, **values)

    def receipt(self, uid: int, reject: str = Reject.OK, score_ppb: int = 0, **values: Any) -> ReceiptLeaf:
        """A receipt for the open round."""
        opened = self.state.open_round
        assert opened is not None
        miner = self.state.miners.get(uid)
        leaf: ReceiptLeaf = plain(
            ReceiptLeaf,
            challenge=opened.position,
            challenge_id=opened.hash,
            round=opened.leaf.round,
            uid=uid,
            hotkey=miner.hotkey if miner else "",
            reject=str(reject),
            score_ppb=score_ppb,
        )
        return replace(leaf, **values)

    def round(self, **results: tuple[str, int]) -> None:
        """A whole round: `round(u1=("ok", 5), u2=("timeout", 0))`."""
        self.add(self.challenge(*[int(uid[1:]) for uid in results]))
        for uid, (reject, score_ppb) in results.items():
            self.add(self.receipt(int(uid[1:]), reject, score_ppb))


def started(*, history_size: int = 3, **hotkeys: str) -> Log:
    """A log with config, rules, metagraph and an epoch."""
    log = Log()
    log.add(plain(ConfigLeaf), rules(history_size), metagraph(**(hotkeys or {"u1": "a", "u2": "b"})), epoch())
    return log


def refuse(log: Log, leaf: Leaf, said: str) -> None:
    """The leaf is refused, and the state is what it was."""
    before = deepcopy(log.state)
    with pytest.raises(LedgerCorrupt, match=said):
        log.add(leaf)
    assert log.state == before


def random_log(seed: int, length: int) -> Log:
    """A random valid history: rounds, skips, reveals, new epochs, metagraphs, rules, weights."""
    random_ = random.Random(seed)
    log = started(u0="k0", u1="k1", u2="k2", u3="k3")
    while len(log.entries) < length:
        random_.choice(_STEPS)(log, random_)
    return log


def random_log_step(log: Log, seed: int) -> None:
    """More of a random history: at least one leaf."""
    random_, before = random.Random(seed + len(log.entries)), len(log.entries)
    while len(log.entries) == before:
        random_.choice(_STEPS)(log, random_)


def _step_metagraph(log: Log, random_: random.Random) -> None:
    if log.state.open_round is None:
        uids = random_.sample(range(5), random_.randint(1, 5))
        log.add(metagraph(**{f"u{uid}": f"k{random_.choice([uid, uid, uid, 9])}{uid}" for uid in uids}))


def _step_rules(log: Log, random_: random.Random) -> None:
    log.add(rules(random_.randint(1, 5)))


def _step_draw(log: Log, random_: random.Random) -> None:
    """A challenge or a skip; the epoch's keys and the next epoch where it is time."""
    progress = log.state.epoch
    assert progress is not None
    if log.state.open_round is not None:
        return
    if progress.cursor == progress.leaf.rows:
        for number in range(progress.segments_revealed, len(progress.leaf.commitments)):
            log.add(segment(number, of_epoch=progress.leaf.epoch))
        log.add(epoch(progress.leaf.epoch + 1, rows=random_.randint(1, 9)))
    elif random_.random() < 0.2:
        log.add(SkipLeaf(progress.leaf.epoch, progress.cursor, 0, "unreadable"))
    else:
        uids = list(log.state.miners)
        log.add(log.challenge(*random_.sample(uids, random_.randint(0, len(uids)))))


def _step_receipts(log: Log, random_: random.Random) -> None:
    opened = log.state.open_round
    if opened is None:
        return
    left = [uid for uid in opened.leaf.asked if uid not in opened.receipts]
    reject = random_.choice([Reject.OK, Reject.TIMEOUT, Reject.INTERRUPTED, Reject.LABEL_UNCHANGED])
    score_ppb = random_.randint(0, 10**9) if reject == Reject.OK else 0
    log.add(log.receipt(random_.choice(left), reject, score_ppb))


def _step_weights(log: Log, random_: random.Random) -> None:
    entry = log.add(plain(WeightsLeaf, shares_ppb=[[1, 10**9]]))
    if random_.random() < 0.7:
        outcome = random_.choice(["set", "ambiguous", "rejected"])
        log.add(SubmissionLeaf(entry.position, 5, outcome, ""))


def _step_certificate(log: Log, random_: random.Random) -> None:
    if log.state.open_round is None:
        log.add(certificate(log))


_STEPS = (
    _step_metagraph,
    _step_rules,
    _step_draw,
    _step_receipts,
    _step_receipts,
    _step_receipts,
    _step_weights,
    _step_certificate,
)
