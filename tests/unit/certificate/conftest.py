"""A published log of an honest validator, its certificate, and that log with the certificate's leaf in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perturbnet.certificate.envelope import Certificate, Statement, sign_statement
from perturbnet.certificate.findings import StepOutcome, StepResult, VerificationReport
from perturbnet.certificate.issuing import issue_certificate
from perturbnet.certificate.verification import Reader, leaf_of, verify_certificate
from perturbnet.ledger import Leaf
from perturbnet.transparency.anchors import Anchor
from perturbnet.transparency.bundle import open_bundle
from tests.support.auditing.honest import LOG_KEY, Honest, live
from tests.support.auditing.published import anchor_of, publish

ISSUED_MS = 1_700_000_000_000


@dataclass(frozen=True)
class World:
    honest: Honest
    bundle: Path  # with the certificate's leaf
    leaves: tuple[Leaf, ...]
    certificate: Certificate
    anchor: Anchor  # pins all of it

    def verify(self, certificate: Certificate | bytes | None = None, **reader: Any) -> VerificationReport:
        """Verify it, or another one, with everything at hand but what `reader` replaces."""
        given = self.certificate if certificate is None else certificate
        data = given if isinstance(given, bytes) else given.data
        place = reader.pop("place", self.bundle)
        with open_bundle(place) as bundle:
            return verify_certificate(data, Reader(**{"bundle": bundle, "anchors": [self.anchor], **reader}))[
                0
            ]

    def forge(self, key: Any = LOG_KEY, **changes: Any) -> Certificate:
        """The certificate with other values at these paths (`a__b=…`), signed anew by `key`."""
        value = msgspec.to_builtins(self.certificate.statement)
        for path, new in changes.items():
            at = value
            *way, last = path.split("__")
            for name in way:
                at = at[int(name)] if isinstance(at, list) else at[name]
            assert last in at, path
            at[last] = new(at[last]) if callable(new) else new
        return sign_statement(msgspec.convert(value, Statement), key)

    def publish_with(self, certificate: Certificate, folder: Path) -> tuple[Path, Anchor]:
        """The log with another certificate's leaf at its end."""
        leaves = [*self.honest.leaves(), leaf_of(certificate)]
        return publish(leaves, folder, self.honest.blobs.folder), anchor_of(leaves)


def refusals(report: VerificationReport) -> list[StepResult]:
    return [line for line in report.lines if line.outcome is StepOutcome.REFUSED]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("certified")
    honest = live(tmp_path_factory.mktemp("honest"))
    before = publish(honest.leaves(), folder / "before", honest.blobs.folder)
    with open_bundle(before) as bundle:
        certificate = issue_certificate(bundle, LOG_KEY, issued_ms=ISSUED_MS)
    leaves = [*honest.leaves(), leaf_of(certificate)]
    after = publish(leaves, folder / "after", honest.blobs.folder)
    return World(honest, after, tuple(leaves), certificate, anchor_of(leaves))
