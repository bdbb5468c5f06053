"""Is this certificate what it says? For a reader who trusts nobody; numbered steps.

1. form: the envelope holds a certificate of a version that this program reads
2. signature: the key that it names signed exactly these bytes
3. subject: it is about the model that it counted, and about yours where you name it
4. arithmetic: shares and intervals follow from the counts, and are of images, not of attempts; the caveats
   are all there
5. delegation: that key was the log's own, delegated by the hotkey (the one you name), where it was recorded
6. log: the log begins with the leaves that it says, under the root that it says
7. evidence: counts, gates and configurations, gathered again from those leaves
8. leaf: the certificate is a leaf of the log, behind those that it is about
9. anchor: an anchor from the chain, or from a file that you vouch for, pins that leaf

Steps 5 to 8 need the log, step 9 anchors from outside. A step that could not be made is said and never
passes: only an evaluation offline goes without an anchor. Whether the log itself is right (labels, scores,
draws) is for `perturb audit` to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from perturbnet.certificate.arithmetic import wrong_rates
from perturbnet.certificate.envelope import Certificate, read_certificate
from perturbnet.certificate.findings import StepOutcome, StepResult, VerificationReport, VerificationStep
from perturbnet.certificate.predicate import PREDICATE_TYPE, gather, sentences
from perturbnet.errors import LedgerError, OutputError
from perturbnet.ledger.leaves import CertificateLeaf, GenesisLeaf
from perturbnet.ledger.merkle import verify_inclusion
from perturbnet.runtime.progress import Progress
from perturbnet.transparency.anchors import Anchor, check_chain, check_pinned
from perturbnet.transparency.bundle import Bundle
from perturbnet.transparency.delegation import Authority, read_authority
from perturbnet.transparency.notes import VerifierKey


@dataclass(frozen=True)
class Reader:
    """What the reader brings: the log, anchors from outside (None for not given), whom and which model."""

    bundle: Bundle | None = None
    anchors: Sequence[Anchor] | None = None
    hotkey: str | None = None
    model: str | None = None
    progress: Progress = lambda _done, _of: None


def verify_certificate(data: bytes, reader: Reader) -> tuple[VerificationReport, Certificate | None]:
    """Take every step that can be taken; the certificate is None where it is none."""
    report = VerificationReport()
    try:
        certificate = read_certificate(data)
    except OutputError as error:
        report.lines.append(StepResult(VerificationStep.FORM, StepOutcome.REFUSED, error.message))
        return report, None
    _Verification(report, certificate, reader).run()
    report.lines.sort(key=lambda line: line.step)
    return report, certificate


@dataclass
class _Verification:
    report: VerificationReport
    certificate: Certificate
    reader: Reader

    def run(self) -> None:
        found = self.certificate
        self._say(VerificationStep.FORM, f"{PREDICATE_TYPE}, {found.digest}")
        self._signature()
        self._subject()
        self._arithmetic()
        bundle = self.reader.bundle
        if bundle is None:
            for step in (
                VerificationStep.DELEGATION,
                VerificationStep.LOG,
                VerificationStep.EVIDENCE,
                VerificationStep.LEAF,
                VerificationStep.ANCHOR,
            ):
                self._leave(step, "no log was given: --bundle")
            return
        try:
            self._in_log(bundle)
        except LedgerError as error:
            self._refuse(VerificationStep.LOG, f"the log cannot be read: {error.message}")

    def _signature(self) -> None:
        found, head = self.certificate, self.certificate.predicate.log
        key = VerifierKey(head.origin, bytes.fromhex(head.key))
        if found.keyid != found.keyname:
            self._refuse(
                VerificationStep.SIGNATURE, f"key id: expected {found.keyname}, got {found.keyid[:200]}"
            )
        elif found.signed_by(key):
            self._say(VerificationStep.SIGNATURE, f"signed by the key {head.key} of {head.origin}")
        else:
            self._refuse(
                VerificationStep.SIGNATURE, f"the key {head.key} did not sign this: edited, or by another key"
            )

    def _subject(self) -> None:
        found, evidence = self.certificate, self.certificate.predicate.evidence
        named = found.statement.subject[0].name
        for what, expected, got in (
            ("the model whose rounds were counted", evidence.statistics.model, found.subject),
            ("the model of the evidence", evidence.model.digest, found.subject),
            ("its name", evidence.model.name, named),
        ):
            if expected != got:
                self._refuse(VerificationStep.SUBJECT, f"{what}: expected {expected}, got {got}")
                return
        if self.reader.model is None:
            self._say(VerificationStep.SUBJECT, f"{named} {found.subject}")
            self._leave(VerificationStep.SUBJECT, "whether that is your model: --model")
        elif self.reader.model == found.subject:
            self._say(VerificationStep.SUBJECT, f"your model: {named} {found.subject}")
        else:
            self._refuse(
                VerificationStep.SUBJECT,
                f"another model: yours is {self.reader.model}, this is {found.subject}",
            )

    def _arithmetic(self) -> None:
        predicate = self.certificate.predicate
        faults = list(wrong_rates(predicate.statistics))
        caveats, mappings = sentences(predicate.evidence, predicate.log.network)
        if (predicate.caveats, predicate.mappings) != (caveats, mappings):
            faults.append("caveats or mappings are not those of this version")
        for fault in faults:
            self._refuse(VerificationStep.ARITHMETIC, fault)
        if not faults:
            self._say(VerificationStep.ARITHMETIC, "shares and intervals of images follow from the counts")

    def _in_log(self, bundle: Bundle) -> None:
        leaf = self._leaf(bundle)
        self._delegation(bundle, leaf[0] if leaf else bundle.size)
        head = self.certificate.predicate.log
        if head.size > bundle.size:
            self._refuse(
                VerificationStep.LOG, f"leaves outside the bundle: {head.size}, the bundle has {bundle.size}"
            )
            self._leave(VerificationStep.EVIDENCE, "the bundle does not hold its leaves")
        elif bundle.root_at(head.size).hex() != head.root:
            found = bundle.root_at(head.size).hex()
            self._refuse(
                VerificationStep.LOG, f"root over {head.size} leaves: expected {found}, got {head.root}"
            )
            self._leave(VerificationStep.EVIDENCE, "its leaves are not those of the bundle")
        else:
            self._say(VerificationStep.LOG, f"{head.origin} begins with its {head.size} leaves")
            self._evidence(bundle)
        self._anchor(bundle, leaf)

    def _delegation(self, bundle: Bundle, position: int) -> None:
        head, hotkey = self.certificate.predicate.log, self.reader.hotkey
        try:
            bundle.verify_signature()
            authority = _authority_at(bundle, position)
        except LedgerError as error:
            self._refuse(VerificationStep.DELEGATION, error.message)
            return
        genesis = bundle.entry(0).leaf
        network = genesis.network if isinstance(genesis, GenesisLeaf) else ""
        said = (head.origin, head.network, head.netuid, head.hotkey, head.key)
        wanted = (authority.origin, network, authority.netuid, authority.hotkey, authority.key.public.hex())
        for name, expected, got in zip(
            ("log", "network", "netuid", "hotkey", "key"), wanted, said, strict=True
        ):
            if expected != got:
                self._refuse(
                    VerificationStep.DELEGATION, f"{name}: the log says {expected}, the certificate {got}"
                )
                return
        if hotkey is not None and hotkey != authority.hotkey:
            self._refuse(
                VerificationStep.DELEGATION, f"another validator: expected {hotkey}, got {authority.hotkey}"
            )
            return
        self._say(VerificationStep.DELEGATION, f"the hotkey {authority.hotkey} delegated that key")
        if hotkey is None:
            self._leave(VerificationStep.DELEGATION, "whether that hotkey is whom you mean: --hotkey")

    def _evidence(self, bundle: Bundle) -> None:
        said = self.certificate.predicate.evidence
        counted = said.statistics
        if counted.until != self.certificate.predicate.log.size:
            self._refuse(
                VerificationStep.EVIDENCE, f"counted to leaf {counted.until}, the root is over another number"
            )
            return
        try:
            found = gather(
                bundle,
                self.certificate.subject,
                since=counted.since,
                until=counted.until,
                level=counted.stability.exact.level,
                progress=self.reader.progress,
            )
        except OutputError as error:
            self._refuse(VerificationStep.EVIDENCE, error.message)
            return
        differing = list(_differences(msgspec.to_builtins(found), msgspec.to_builtins(said), ""))
        for name, expected, got in differing[:20]:
            self._refuse(VerificationStep.EVIDENCE, f"{name}: counted {expected}, the certificate says {got}")
        if not differing:
            self._say(
                VerificationStep.EVIDENCE,
                f"{counted.rounds} rounds on {counted.images} images, counted again",
            )

    def _leaf(self, bundle: Bundle) -> tuple[int, CertificateLeaf] | None:
        """Step 8; returns where the leaf stands."""
        certificate = self.certificate
        start = min(max(certificate.predicate.log.size, 0), bundle.size)
        for entry in bundle.entries(start):
            if isinstance(entry.leaf, CertificateLeaf) and entry.leaf.envelope == certificate.digest:
                break
        else:
            self._refuse(
                VerificationStep.LEAF, f"no leaf from {start} to {bundle.size} names {certificate.digest}"
            )
            return None
        if entry.leaf != leaf_of(certificate):
            self._refuse(
                VerificationStep.LEAF, f"leaf {entry.position} says something else about this certificate"
            )
            return None
        place, proof = entry.position, bundle.prove_inclusion(entry.position)
        if not verify_inclusion(bytes.fromhex(entry.hash), place, bundle.size, proof, bundle.checkpoint.root):
            self._refuse(VerificationStep.LEAF, f"leaf {place} does not lead to the checkpoint's root")
            return None
        self._say(VerificationStep.LEAF, f"leaf {place} of {bundle.size}, proven up to the root")
        return place, entry.leaf

    def _anchor(self, bundle: Bundle, leaf: tuple[int, CertificateLeaf] | None) -> None:
        predicate, anchors = self.certificate.predicate, self.reader.anchors
        if predicate.offline and not anchors:
            self._say(
                VerificationStep.ANCHOR,
                "none: an offline evaluation is on no chain; its dates are the operator's word",
            )
        elif anchors is None:
            self._leave(VerificationStep.ANCHOR, "no anchor: none were given (--anchors chain or FILE)")
        elif leaf is None:
            self._leave(VerificationStep.ANCHOR, "there is no leaf that an anchor could pin")
        else:
            self._pinned(bundle, leaf[0], sorted(anchors, key=lambda anchor: (anchor.size, anchor.block)))

    def _pinned(self, bundle: Bundle, place: int, anchors: Sequence[Anchor]) -> None:
        try:
            check_chain(anchors) if len(anchors) > 1 else None
            older = _older(bundle, anchors[-1]) if anchors else []
            check_pinned([*anchors, *older], bundle.size, bundle.tree.subtree)
        except LedgerError as error:
            self._refuse(VerificationStep.ANCHOR, error.message)
            return
        pinning = [anchor for anchor in (*older, *anchors) if anchor.size > place]
        other = {anchor.netuid for anchor in anchors} - {self.certificate.predicate.log.netuid}
        if other:
            self._refuse(VerificationStep.ANCHOR, f"an anchor of netuid {min(other)}, the log's is another")
        elif not pinning:
            newest = f"the newest pins {anchors[-1].size} leaves" if anchors else "there is none on chain"
            self._refuse(VerificationStep.ANCHOR, f"no anchor pins leaf {place}: {newest}; the next one may")
        else:
            first = min(pinning, key=lambda anchor: (anchor.block, anchor.size))
            self._say(
                VerificationStep.ANCHOR,
                f"leaf {place} is on chain since block {first.block} ({first.size} leaves)",
            )

    def _say(self, step: VerificationStep, text: str) -> None:
        self.report.lines.append(StepResult(step, StepOutcome.CHECKED, text))

    def _refuse(self, step: VerificationStep, text: str) -> None:
        self.report.lines.append(StepResult(step, StepOutcome.REFUSED, text))

    def _leave(self, step: VerificationStep, text: str) -> None:
        self.report.lines.append(StepResult(step, StepOutcome.UNCHECKED, text))


def leaf_of(certificate: Certificate) -> CertificateLeaf:
    """The leaf by which a log names a certificate."""
    statistics = certificate.predicate.statistics
    return CertificateLeaf(
        envelope=certificate.digest,
        predicate=PREDICATE_TYPE,
        subject=certificate.subject,
        since=statistics.since,
        until=statistics.until,
        statistics=statistics.digest(),
        key=certificate.predicate.log.key,
    )


def _authority_at(bundle: Bundle, position: int) -> Authority:
    """Who signed the log at a leaf: key leaves behind it do not matter yet."""
    indices = [index for index in bundle.key_indices() if index < position]
    return read_authority(bundle.entry(0).leaf, [bundle.entry(index).leaf for index in indices])


def _older(bundle: Bundle, newest: Anchor) -> list[Anchor]:
    """The bundle's anchors up to the newest from outside, which pins them; none where it is not listed."""
    digests = [anchor.digest for anchor in bundle.anchors]
    older = bundle.anchors[: digests.index(newest.digest) + 1] if newest.digest in digests else []
    check_chain(older)
    return older


def _differences(expected: Any, got: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """Where two values differ, by name."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted({*expected, *got}):
            yield from _differences(expected.get(key), got.get(key), f"{name}.{key}".lstrip("."))
    elif expected != got:
        yield name, str(expected)[:200], str(got)[:200]
