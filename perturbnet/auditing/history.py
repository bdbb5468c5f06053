"""Steps 4, 5, 6 and 9: the log read once, in order; everything that depends on what came before.

The fold of the ledger says what can follow (step 4); it is the validator's own. A leaf that it refuses ends
the reading: the state after it would be a guess. What the leaves say beyond that (draws, challenges,
selection, weights) is compared, and the reading goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

from perturbnet.auditing.challenges import check_challenge
from perturbnet.auditing.draws import DrawCheck, Skipped
from perturbnet.auditing.findings import AuditReport, AuditStep, Finding
from perturbnet.datasets import SourceIdentity
from perturbnet.errors import LeafRefused, LedgerCorrupt, NoteError
from perturbnet.ledger import Entry, LedgerState
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
)
from perturbnet.rounds.terms import read_gates, read_metagraph, read_selection, weigh
from perturbnet.transparency.delegation import Authority, follow_key, read_genesis


@dataclass(frozen=True)
class Expected:
    """What the auditor knows from elsewhere: whose log, which subnet, which data set and model."""

    hotkey: str
    netuid: int
    dataset: SourceIdentity | None = None
    model_digest: str | None = None
    protocol_fingerprint: str | None = None  # the digest of the manifest that names all of it
    anchored: tuple[tuple[int, int], ...] = ()  # (leaves, block) of each anchor from outside, ascending


@dataclass
class History:
    """Takes the entries of one log in order."""

    expected: Expected
    report: AuditReport = field(default_factory=AuditReport)
    state: LedgerState = field(default_factory=LedgerState)
    skipped: list[tuple[Skipped, RulesLeaf]] = field(default_factory=list)
    broken: bool = False
    taken: int = 0
    authority: Authority | None = None
    _draws: DrawCheck = field(init=False)
    _models: set[str] = field(default_factory=set)
    _skips: int = 0
    _last_block: int = 0

    def __post_init__(self) -> None:
        """Findings of all parts go into one report."""
        self._draws = DrawCheck(self.report)

    def take(self, entry: Entry) -> None:
        """The next entry; after one that cannot follow, the rest is only counted."""
        self.taken += 1
        if self.broken:
            self.report.unchecked["leaves after the break"] += 1
            return
        self._look_before(entry)
        try:
            self.state.apply(entry)
        except LeafRefused as refused:
            step = AuditStep.DRAWS if refused.field == "key" else AuditStep.SEQUENCE
            self._find(step, entry, refused.field, refused.expected, refused.got)
            self.broken = True
            return
        self.report.checked["leaves"] += 1
        self._look_after(entry)

    def close(self) -> None:
        """The log ends here."""
        self._draws.close()
        if self.state.open_round is not None and not self.broken:
            self.report.unchecked["rounds still open at the end"] += 1

    def _look_before(self, entry: Entry) -> None:
        """What depends on the state before this leaf."""
        match entry.leaf:
            case ChallengeLeaf() as leaf:
                self._check_challenge(entry, leaf)
            case WeightsLeaf() as leaf:
                self._check_weights(entry, leaf)
            case GenesisLeaf() | KeyLeaf() as leaf:
                self._follow_key(entry, leaf)
            case ConfigLeaf() as leaf:
                self._check_config(entry, leaf)
            case RulesLeaf() as leaf:
                self._check_readable(entry, "gates", partial(read_gates, leaf))
                self._check_readable(entry, "selection", partial(read_selection, leaf))
                self._check_readable(entry, "history", partial(weigh, (), leaf))
            case MetagraphLeaf() as leaf:
                self._check_metagraph(entry, leaf)
            case ReceiptLeaf() as leaf:
                self._check_block(entry, leaf.block)
            case EpochLeaf() as leaf:
                self._check_epoch(entry, leaf)
            case CertificateLeaf() as leaf:
                self._check_certificate(entry, leaf)
            case _:
                pass

    def _look_after(self, entry: Entry) -> None:
        """What needs the leaf to be accepted first."""
        match entry.leaf:
            case EpochLeaf() as leaf:
                self._draws.begin(entry, leaf)
            case SkipLeaf() as leaf:
                self._skips += 1
                self._draws.take(entry, leaf.draw)
            case ChallengeLeaf() as leaf:
                self._skips, self._last_block = 0, leaf.block
                self._draws.take(entry, leaf.draw)
                self.report.checked["challenges"] += 1
                self.report.attested["blocks of challenges"] += 1
            case SegmentLeaf() as leaf:
                rules = self.state.rules
                for skipped in self._draws.reveal(entry, leaf):
                    if rules is not None:
                        self.skipped.append((skipped, rules[1]))
            case MetagraphLeaf():
                self.report.attested["snapshots of the metagraph"] += 1
            case SubmissionLeaf() as leaf:
                self.report.attested[f"submissions of weights: {leaf.outcome}"] += 1
            case CertificateLeaf():
                self.report.attested["certificates (`perturb certificate verify` counts again)"] += 1
            case _:
                pass

    def _check_challenge(self, entry: Entry, leaf: ChallengeLeaf) -> None:
        self._check_block(entry, leaf.block)
        self.report.findings += check_challenge(entry, leaf, self.state, skips=self._skips)

    def _check_weights(self, entry: Entry, leaf: WeightsLeaf) -> None:
        """Step 9."""
        if self.state.rules is None:
            self._find(AuditStep.WEIGHTS, entry, "rules", "a rules leaf before it", "none")
            return
        if self.state.open_round is not None:
            missing = len(self.state.open_round.leaf.asked) - len(self.state.open_round.receipts)
            self._find(AuditStep.SEQUENCE, entry, "kind", f"{missing} more receipts", "weights")
            return
        position, rules = self.state.rules
        try:
            vector = weigh(self.state.standings(), rules)
        except LedgerCorrupt as error:
            self._find(AuditStep.WEIGHTS, entry, "rules", "ones that can be read", error.message)
            return
        shares = [[uid, share] for uid, share in vector.shares_ppb.items()]
        facts: list[tuple[str, object, object]] = [
            ("rules", position, leaf.rules),
            ("round", self.state.rounds, leaf.round),
            ("shares_ppb", shares, leaf.shares_ppb),
            ("reason", vector.reason, leaf.reason),
        ]
        for name, expected, got in facts:
            if expected != got:
                self._find(AuditStep.WEIGHTS, entry, name, expected, got)
        self._check_block(entry, leaf.block)
        self.report.checked["weight vectors"] += 1

    def _follow_key(self, entry: Entry, leaf: GenesisLeaf | KeyLeaf) -> None:
        """Step 1: who may sign from here on."""
        try:
            if isinstance(leaf, GenesisLeaf):
                self.authority = read_genesis(leaf)
            elif self.authority is not None:
                self.authority = follow_key(self.authority, leaf)
        except NoteError as error:
            self._find(AuditStep.SIGNATURE, entry, "signature", "a key that was delegated", error.message)

    def _check_config(self, entry: Entry, leaf: ConfigLeaf) -> None:
        self._models.add(leaf.model_digest)
        known = self.expected
        facts: list[tuple[str, object, object]] = [
            ("validator", self.authority.hotkey if self.authority else known.hotkey, leaf.validator),
            ("netuid", known.netuid, leaf.netuid),
        ]
        try:
            facts.append(("fingerprint", SourceIdentity(**leaf.dataset).fingerprint, leaf.fingerprint))  # type: ignore[arg-type]  # a stranger's leaf
        except TypeError as error:
            facts.append(("dataset", "the five fields of a data set", str(error)))
        if known.dataset is not None:
            facts.append(("dataset", asdict(known.dataset), leaf.dataset))
        if known.model_digest is not None:
            facts.append(("model_digest", known.model_digest, leaf.model_digest))
        if known.protocol_fingerprint is not None:
            facts.append(("protocol_fingerprint", known.protocol_fingerprint, leaf.protocol_fingerprint))
        for name, expected, got in facts:
            if expected != got:
                self._find(AuditStep.SEQUENCE, entry, name, expected, got)

    def _check_certificate(self, entry: Entry, leaf: CertificateLeaf) -> None:
        """Its range, key and place are the fold's; here: it is about a model that this log has judged."""
        if leaf.subject not in self._models:
            models = ", ".join(sorted(self._models)) or "none"
            self._find(
                AuditStep.SEQUENCE, entry, "subject", f"a model of a config leaf: {models}", leaf.subject
            )

    def _check_metagraph(self, entry: Entry, leaf: MetagraphLeaf) -> None:
        if leaf.netuid != self.expected.netuid:
            self._find(AuditStep.SEQUENCE, entry, "netuid", self.expected.netuid, leaf.netuid)
        self._check_block(entry, leaf.block)
        self._check_readable(entry, "neurons", partial(read_metagraph, leaf))

    def _check_epoch(self, entry: Entry, leaf: EpochLeaf) -> None:
        if self.state.config is None:
            return
        config = self.state.config[1]
        for name, expected, got in (
            ("fingerprint", config.fingerprint, leaf.fingerprint),
            ("rows", config.dataset.get("rows"), leaf.rows),
        ):
            if expected != got:
                self._find(AuditStep.DRAWS, entry, name, expected, got)

    def _check_block(self, entry: Entry, block: int) -> None:
        """Blocks never go back, and a leaf that an anchor pins is not of a later block than the anchor."""
        if block < self._last_block:
            self._find(AuditStep.SEQUENCE, entry, "block", f"{self._last_block} or later", block)
        pinned = next((at for size, at in self.expected.anchored if entry.position < size), None)
        if pinned is not None and block > pinned:
            self._find(AuditStep.ANCHORS, entry, "block", f"{pinned} or earlier: anchored there", block)

    def _check_readable(self, entry: Entry, name: str, read: Callable[[], object]) -> None:
        try:
            read()
        except LedgerCorrupt as error:
            self._find(AuditStep.SEQUENCE, entry, name, "one that can be read", error.message)

    def _find(self, step: AuditStep, entry: Entry, name: str, expected: object, got: object) -> None:
        self.report.findings.append(Finding(step, entry.position, name, str(expected), str(got)))
