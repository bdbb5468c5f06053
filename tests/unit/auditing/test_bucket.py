"""From the ledger into a bucket, with faults on the way; and audited by who has only its address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perturbnet.auditing.findings import AuditStep
from perturbnet.auditing.run import Audit, Means, Scope, audit_bundle
from perturbnet.errors import BundleTampered
from perturbnet.ledger import LedgerStore
from perturbnet.transparency.anchors import Anchor
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.places import open_target
from perturbnet.transparency.publishing import LogSource, publish
from tests.support.auditing.honest import LOG_KEY, Honest, first
from tests.support.auditing.published import anchor_of
from tests.support.s3_server import Cut, Refuse, S3Server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with S3Server("logs", page=1000) as server:
        server.use(monkeypatch)
        yield server


def look(s3: S3Server, honest: Honest, anchor: Anchor) -> Audit:
    """Audit by plain HTTP, without a key of the store."""
    with open_bundle(f"{s3.url}/validator") as bundle:
        audit = Audit(bundle, honest.expected, Means(honest.source, honest.engine), Scope.whole(bundle.size))
        audit_bundle(audit, bundle, [anchor])
    return audit


def test_a_log_in_a_bucket_is_audited_over_http(honest: Honest, folder: Path, s3: S3Server) -> None:
    with LedgerStore(folder / "ledger.sqlite") as store:
        store.append(honest.leaves())
        source, target = LogSource(store, honest.blobs, LOG_KEY), open_target("s3://logs/validator")
        s3.fault("PUT", "*", Refuse(503, "SlowDown"), times=2)
        s3.fault("PUT", "validator/checkpoint", Cut(done=True))
        publish(source, target, store.size)
    assert s3.injected == {"SlowDown": 2, "Cut": 1}
    done = len(s3.requests)
    report = look(s3, honest, anchor_of(honest.leaves())).report
    assert report.findings == []
    assert report.checked["leaves that an anchor pins"] == len(honest.entries)
    assert not any(item.signed for item in s3.requests[done:])
    # And one byte of one object, changed by whoever keeps the bucket:
    name = next(name for name in s3.objects if name.startswith("validator/tile/entries/"))
    data = bytearray(s3.objects[name].data)
    data[len(data) // 2] ^= 1
    s3.objects[name] = type(s3.objects[name])(bytes(data), s3.objects[name].headers)
    report = look(s3, honest, anchor_of(honest.leaves())).report
    with open_bundle(f"{s3.url}/validator") as bundle, pytest.raises(BundleTampered) as caught:
        list(bundle.entries())
    assert first(report, AuditStep.LEAVES).got == f"BundleTampered: {caught.value.message}"
