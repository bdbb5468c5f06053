"""Steps 7 and 8: the receipts of one round, written again from the answers, and compared field by field.

The receipts are written by the validator's own code (`perturbnet.rounds.receipts`) from the clean image and
what each miner changed. Without a model, the engine is the record itself (`RecordedEngine`): labels and
logits are taken as they stand, and everything else must follow from them. With one, they are recomputed too.

A code from check 4 on without pixels is a finding, for only pixels can earn it; `not_serving` and
`address_refused` follow from the metagraph leaf. Attested, because only the validator was there: response
times, and the other codes of answers of which no pixels came (time-outs, refused connections, malformed
bodies). Such a miner has the validator's signed acknowledgement and its own body, see `acknowledged`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from msgspec import structs

from perturbnet.auditing.challenges import check_image, check_view, read_ranges
from perturbnet.auditing.findings import AuditReport, AuditStep, Finding
from perturbnet.datasets import SourceImage
from perturbnet.errors import BundleMissing, DatasetError, LedgerCorrupt, PerturbError, Refused, Reject
from perturbnet.ledger import ArrivalRow, Entry, OpenRound
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf, RulesLeaf
from perturbnet.rounds.logged import Contexts, Log, LoggedRound
from perturbnet.rounds.receipts import build_task, judge_answers, write_receipts
from perturbnet.rounds.terms import Terms
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.freshness import FreshnessRanges
from perturbnet.rules.verification import NOT_REACHED, Image, Verdict, Verification, signature_holds
from perturbnet.wire.addresses import check_address
from perturbnet.wire.deltas import apply_delta
from perturbnet.wire.images import Pixels, pixel_digest
from perturbnet.wire.target import Target

LABEL_FIELDS = frozenset(
    {
        "label_before",
        "index_before",
        "logits_before",
        "label_after",
        "index_after",
        "logits_after",
        "saturated",
    }
)
# Checks 4 to 8: an answer under these codes has pixels, or it could not have been given them.
FROM_PIXELS = frozenset(
    {
        Reject.LINF_LOW,
        Reject.LINF_HIGH,
        Reject.SSIM_LOW,
        Reject.PSNR_LOW,
        Reject.CLEAN_MISLABELLED,
        Reject.LABEL_UNCHANGED,
        Reject.INDETERMINATE,
    }
)
# The metagraph leaf decides these, before anybody is asked.
FROM_ADDRESS = frozenset({Reject.NOT_SERVING, Reject.ADDRESS_REFUSED})
# An answer under these codes may have come without a signature that holds.
UNSIGNED = frozenset(
    {
        Reject.NOT_SERVING,
        Reject.ADDRESS_REFUSED,
        Reject.OFFLINE,
        Reject.TIMEOUT,
        Reject.HTTP_ERROR,
        Reject.INTERRUPTED,
        Reject.BODY_TOO_LARGE,
        Reject.BAD_MESSAGE,
        Reject.BAD_SIGNATURE,
    }
)


class RecordedEngine:
    """An engine that believes the record: each image's label and logits as the leaves have them."""

    name = model_name = model_digest = "recorded"
    labels: tuple[str, ...] = ()
    together = 1

    def __init__(self, challenge: ChallengeLeaf, receipts: Sequence[ReceiptLeaf]) -> None:
        """Remember the clean image's word, and the first receipt's for each answer."""
        clean = (challenge.true_index, challenge.true_label, challenge.clean_logits, 0.0, 0)
        self._known = {
            leaf.adversarial_pixels: (
                leaf.index_after,
                leaf.label_after,
                leaf.logits_after,
                0.0,
                leaf.saturated,
            )
            for leaf in reversed(receipts)
            if leaf.saturated != NOT_REACHED
        } | {challenge.clean_pixels: clean}

    def classify(self, images: Sequence[Pixels]) -> list[Classification]:
        """See `Engine.classify`; an image that no receipt names has an empty label."""
        return [
            Classification(*self._known.get(pixel_digest(pixels), (NOT_REACHED, "", "", 0.0, 0)))
            for pixels in images
        ]


@dataclass
class RoundCheck:
    """Checks rounds of one log. `engine` is None without a model; `read_row` reads the auditor's data set."""

    log: Log
    read_row: Callable[[int], SourceImage]
    engine: Engine | None = None
    chosen: AbstractSet[int] | None = None  # positions of receipts to recompute; None for all
    local: bool = False  # a network on one machine, where private addresses are dialled
    report: AuditReport = field(default_factory=AuditReport)
    _contexts: Contexts = field(init=False)

    def __post_init__(self) -> None:
        """Look up leaves in the same log."""
        self._contexts = Contexts(self.log)

    def check(self, logged: LoggedRound) -> None:
        """One round: its image, then its receipts."""
        opened = logged.opened
        try:
            terms = self._contexts.terms_of(opened.leaf)
        except LedgerCorrupt as error:
            self._find(
                AuditStep.SEQUENCE, opened.position, "config, rules, metagraph", "its terms", error.message
            )
            return
        for entry, leaf in zip(logged.receipts, logged.receipt_leaves(), strict=True):
            self._check_signature(entry.position, leaf, terms)
        clean = self._clean_image(opened, terms)
        if clean is None:
            self.report.unchecked["receipts without their clean image"] += len(logged.receipts)
            return
        self._check_receipts(logged, terms, clean)

    def _clean_image(self, opened: OpenRound, terms: Terms) -> Pixels | None:
        """Step 6's second half: the image that was sent, from the auditor's data set."""
        leaf = opened.leaf
        ranges = read_ranges(self._contexts.leaf_at(leaf.rules, RulesLeaf))
        try:
            image = self.read_row(leaf.row)
        except DatasetError as error:
            self._find(AuditStep.CHALLENGES, opened.position, "row", "a row that can be read", error.message)
            return None
        entry = Entry(opened.position, opened.hash, leaf)
        clean, findings = check_image(entry, leaf, image, ranges)
        self.report.findings += findings
        self.report.checked["clean images"] += 1
        if clean is not None and not findings and leaf.freshness and ranges and ranges.views > 1:
            self._check_view(entry, leaf, image, ranges, terms)
        return clean

    def _check_view(
        self, entry: Entry, leaf: ChallengeLeaf, image: SourceImage, ranges: FreshnessRanges, terms: Terms
    ) -> None:
        """Which view of the image was sent depends on the model."""
        if self.engine is None or self.engine.model_digest != terms.model_digest:
            self.report.unchecked["choices among views (the model was not asked)"] += 1
            return
        self.report.findings += check_view(entry, leaf, image, ranges, self.engine)
        self.report.checked["choices among views"] += 1

    def _check_receipts(self, logged: LoggedRound, terms: Terms, clean: Pixels) -> None:
        opened, receipts = logged.opened, logged.receipt_leaves()
        engine = self._engine_for(terms, receipts)
        judge: Engine = engine or RecordedEngine(opened.leaf, receipts)
        before = judge.classify([clean])[0]
        if engine is not None:
            self._check_clean(opened, before)
        verification = Verification(build_task(opened, terms, clean), judge, before)
        answers = [self._answer(entry, opened, terms, clean) for entry in logged.receipts]
        try:
            judged = judge_answers(verification, answers, duplicates=terms.duplicates)
        except (ValueError, ArithmeticError) as error:  # epsilon and rules are a stranger's text
            wanted = "ones that can be computed with"
            self._find(AuditStep.ANSWERS, opened.position, "epsilon, rules", wanted, repr(error))
            return
        block = receipts[0].block if receipts else 0
        expected = {leaf.uid: leaf for leaf in write_receipts(opened, terms, judged, block=block)}
        for entry, leaf in zip(logged.receipts, receipts, strict=True):
            self._compare(entry.position, expected.get(leaf.uid), leaf, modelled=engine is not None)
        if engine is not None:
            self.report.checked["labels recomputed"] += sum(item.pixels is not None for item in judged)

    def _engine_for(self, terms: Terms, receipts: Sequence[ReceiptLeaf]) -> Engine | None:
        """The model, where this round was judged by it."""
        if self.engine is None:
            return None
        if self.engine.model_digest != terms.model_digest:
            self.report.unchecked["labels of receipts under another model"] += len(receipts)
            return None
        return self.engine

    def _answer(
        self, entry: Entry, opened: OpenRound, terms: Terms, clean: Pixels
    ) -> tuple[ArrivalRow, Image | Verdict]:
        """A miner's answer as far as it can be had, and counted accordingly."""
        leaf = entry.leaf
        if not isinstance(leaf, ReceiptLeaf):  # read_rounds collects nothing else
            raise LedgerCorrupt(f"leaf {entry.position} is a {leaf.kind} leaf, expected a receipt")
        target = next((target for target in terms.targets if target.uid == leaf.uid), None)
        row = ArrivalRow(
            challenge=opened.position,
            uid=leaf.uid,
            hotkey=target.hotkey if target else "",
            reject=Reject.OK.value if leaf.adversarial_pixels else leaf.reject,
            body=leaf.body,
            nonce=leaf.nonce,
            signature=leaf.signature,
            response_ms=leaf.response_ms,
        )
        if not leaf.adversarial_pixels:
            return row, self._without_pixels(entry.position, leaf, target)
        return row, self._with_pixels(entry.position, leaf, clean)

    def _with_pixels(self, position: int, leaf: ReceiptLeaf, clean: Pixels) -> Image | Verdict:
        """An answer whose changes are published: its image, or the record where it is not looked at."""
        self.report.attested["response times"] += 1
        if self.chosen is not None and position not in self.chosen:
            self.report.unchecked["receipts outside the sample"] += 1
            return _recorded(leaf, clean)
        try:
            pixels = apply_delta(clean, self.log.blob(leaf.delta))
        except BundleMissing:
            self.report.unchecked["receipts whose answer is not published any more"] += 1
            return _recorded(leaf, clean)
        except PerturbError as error:
            self._find(AuditStep.ANSWERS, position, "delta", "the miner's changes", error.message)
            return _recorded(leaf, clean)
        self.report.checked["receipts recomputed"] += 1
        return Image.of(pixels, _signed_pixels(leaf))

    def _without_pixels(self, position: int, leaf: ReceiptLeaf, target: Target | None) -> Verdict:
        """An answer of which no pixels came: its code, where something else than the record decides it."""
        signed = _signed_pixels(leaf)
        if leaf.reject == Reject.OK or leaf.reject not in set(Reject):
            wanted = "a code for an answer without pixels"
            self._find(AuditStep.ANSWERS, position, "reject", wanted, leaf.reject)
            return Verdict(Reject.INTERRUPTED, signed_pixels=signed)
        reject = Reject(leaf.reject)
        if reject in FROM_PIXELS:
            wanted = f"the answer that was found {reject.value}"
            self._find(AuditStep.ANSWERS, position, "adversarial_pixels", wanted, "none")
        elif reject in FROM_ADDRESS and target is not None:
            self._check_announced(position, reject, target)
        else:
            self.report.attested[f"no image: {leaf.reject}"] += 1
        return Verdict(reject, signed_pixels=signed)

    def _check_announced(self, position: int, reject: Reject, target: Target) -> None:
        """Whether a miner was not asked because of what it announces, as the metagraph leaf has it."""
        try:
            shown = check_address(target.host, target.port, allow_private=self.local).authority
        except Refused as refused:
            shown = refused.reject.value
        if shown != reject.value:
            self._find(AuditStep.ANSWERS, position, "reject", f"what follows from {shown}", reject.value)
        self.report.checked["codes that follow from the metagraph"] += 1

    def _check_clean(self, opened: OpenRound, clean: Classification) -> None:
        """Step 8 for the challenge itself."""
        leaf = opened.leaf
        for name, expected, got in (
            ("true_index", clean.index, leaf.true_index),
            ("true_label", clean.text, leaf.true_label),
            ("clean_logits", clean.logits_digest, leaf.clean_logits),
            ("saturated", clean.saturated, 0),
        ):
            if expected != got:
                self._find(AuditStep.LABELS, opened.position, name, expected, got)
        self.report.checked["clean labels recomputed"] += 1

    def _check_signature(self, position: int, leaf: ReceiptLeaf, terms: Terms) -> None:
        """The miner's own signature, over what it was asked, its body and its pixels."""
        if not leaf.signature:
            if leaf.reject not in UNSIGNED:
                self._find(AuditStep.ANSWERS, position, "signature", "the miner's", "none")
            return
        if not signature_holds(
            terms.netuid, terms.validator, leaf.challenge_id, leaf, leaf.signed_pixels or None
        ):
            self._find(AuditStep.ANSWERS, position, "signature", f"one of {leaf.hotkey}", leaf.signature)
        elif leaf.adversarial_pixels and leaf.adversarial_pixels != leaf.signed_pixels:
            wanted, got = leaf.signed_pixels, leaf.adversarial_pixels
            self._find(AuditStep.ANSWERS, position, "adversarial_pixels", wanted, got)
        self.report.checked["signatures"] += 1

    def _compare(
        self, position: int, expected: ReceiptLeaf | None, got: ReceiptLeaf, *, modelled: bool
    ) -> None:
        if expected is None:
            self._find(AuditStep.SEQUENCE, position, "uid", "one that was asked", got.uid)
            return
        wanted, found = structs.asdict(expected) | {"delta": got.delta}, structs.asdict(got)
        different = [name for name in wanted if wanted[name] != found[name]]
        step = AuditStep.LABELS if modelled and LABEL_FIELDS & set(different) else AuditStep.ANSWERS
        for name in different:
            self._find(step, position, name, wanted[name], found[name])

    def _find(self, step: AuditStep, position: int, name: str, expected: object, got: object) -> None:
        self.report.findings.append(Finding(step, position, name, str(expected), str(got)))


def _recorded(leaf: ReceiptLeaf, clean: Pixels) -> Verdict:
    """The verdict that a receipt holds."""
    values = {
        name: value for name, value in structs.asdict(leaf).items() if name in Verdict.__dataclass_fields__
    }
    size = {"height": clean.shape[0], "width": clean.shape[1]}
    reject = Reject(leaf.reject) if leaf.reject in set(Reject) else Reject.INTERRUPTED
    return Verdict(**{**values, **size, "reject": reject, "signed_pixels": _signed_pixels(leaf)})


def _signed_pixels(leaf: ReceiptLeaf) -> str | None:
    """What a receipt says was signed (`Verdict.signed_pixels`); `_check_signature` says whether it was."""
    return leaf.signed_pixels if leaf.signature or leaf.signed_pixels else None
