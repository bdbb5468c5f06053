"""A log in a bucket, by S3's protocol on loopback: whole or not at all, refusals by name, no secret said."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perturbnet.errors import BundleError, BundleMissing, LedgerError, LedgerForked
from perturbnet.transparency.buckets import IMMUTABLE, TRIES_AFTER_THE_FIRST, Bucket
from perturbnet.transparency.bundle import blob_path, open_bundle
from perturbnet.transparency.places import open_target
from perturbnet.transparency.publishing import publish, published_checkpoint, unpublish_blobs
from tests.support.s3_server import Cut, Fault, Refuse, S3Server, Short
from tests.support.transparency.logs import SignedLog, signed_log

PLACE = "s3://logs/a/log"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with S3Server("logs") as server:
        server.use(monkeypatch)
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    return Bucket(PLACE, backoff_s=0.002)


def shown(s3: S3Server) -> int:
    """How many leaves anybody reads over plain HTTP, all of them checked up to the root."""
    with open_bundle(f"{s3.url}/a/log") as bundle:
        bundle.verify_signature()
        return len(list(bundle.entries()))


def test_anybody_reads_over_http_what_was_published(log: SignedLog, s3: S3Server, bucket: Bucket) -> None:
    digest = log.answer(b"a delta")
    assert publish(log.source, bucket, 601).size == 601
    with open_bundle(f"{s3.url}/a/log") as bundle:
        assert bundle.verify_signature().origin == log.key.name
        assert list(bundle.entries()) == list(log.store.entries())
        assert bundle.blob(digest) == b"a delta"
        with pytest.raises(BundleMissing, match="status 403"):
            bundle.blob("ab" * 32)
    assert s3.order("PUT")[-1] == "a/log/checkpoint"
    assert all(item.signed for item in s3.requests if item.method != "GET")


def test_content_types_and_caching(log: SignedLog, s3: S3Server, bucket: Bucket) -> None:
    log.answer(b"a delta")
    publish(log.source, bucket, 601)
    kinds: dict[str, set[tuple[str, str]]] = {}
    for name, stored in s3.objects.items():
        first = name.removeprefix("a/log/").partition("/")[0]
        found = (stored.headers["content-type"], stored.headers["cache-control"])
        kinds.setdefault(first, set()).add(found)
    assert kinds == {
        "checkpoint": {("text/plain; charset=utf-8", "no-store")},
        "anchors.json": {("application/json", "no-store")},
        "keys.json": {("application/json", "no-store")},
        "tile": {("application/octet-stream", IMMUTABLE)},
        "blobs": {("application/octet-stream", IMMUTABLE)},
    }


def test_it_grows_drops_parts_that_are_full_and_blobs_whose_time_is_over(
    log: SignedLog, s3: S3Server, bucket: Bucket
) -> None:
    for size in (1, 100, 253, 254, 255, 256, 300, 512, 600):
        publish(log.source, bucket, size)
        assert shown(s3) == size
    parts = [name.removeprefix("a/log/") for name in sorted(s3.objects) if ".p/" in name]
    assert parts == ["tile/0/002.p/88", "tile/1/000.p/1", "tile/1/000.p/2", "tile/entries/002.p/88"]
    digest = log.answer(b"a delta")
    publish(log.source, bucket, 601)
    unpublish_blobs(bucket, [digest, "ab" * 32])
    assert f"a/log/{blob_path(digest)}" not in s3.objects


def test_blobs_go_together_and_the_rest_in_order(log: SignedLog, s3: S3Server, bucket: Bucket) -> None:
    for number in range(60):
        log.answer(b"%d" % number)
    s3.pause_s = 0.01
    s3.fault("PUT", "*", Refuse(503, "SlowDown"), times=5)
    publish(log.source, bucket, 660)
    assert 1 < s3.busiest <= bucket.at_once
    order = s3.order("PUT")
    assert all("/blobs/" in name for name in order[:60])
    kinds = [name.removeprefix("a/log/").split("/")[0] for name in order[60:]]
    assert kinds == ["tile"] * 7 + ["keys.json", "anchors.json", "checkpoint"]
    s3.fault("PUT", f"a/log/{blob_path(log.answer(b'one more'))}", Refuse(403, "AccessDenied"))
    log.answer(b"and one more")
    with pytest.raises(LedgerError, match="AccessDenied"):
        publish(log.source, bucket, 662)
    assert shown(s3) == 660


@pytest.mark.parametrize(
    "fault", [Refuse(503, "SlowDown"), Refuse(500, "InternalError"), Cut(done=False), Cut(done=True)]
)
def test_what_passes_is_tried_again(log: SignedLog, s3: S3Server, bucket: Bucket, fault: Fault) -> None:
    for name in ("checkpoint", "tile/0/000", "tile/entries/000"):
        s3.fault("PUT", f"a/log/{name}", fault, times=2)
    s3.fault("GET", "a/log/checkpoint", fault, times=2)
    assert publish(log.source, bucket, 600).size == 600
    assert s3.injected.total() == 8
    assert shown(s3) == 600


def test_a_read_that_was_cut_off_goes_on_where_it_stopped(s3: S3Server, bucket: Bucket) -> None:
    data = bytes(range(256)) * 1000
    bucket.write("tile/0/000", data)
    s3.fault("GET", "a/log/tile/0/000", Short(100_000), times=1)
    assert bucket.read("tile/0/000", len(data)) == data
    assert s3.injected == {"Short": 1}
    with pytest.raises(BundleError, match="more than the 255999 bytes"):
        bucket.read("tile/0/000", len(data) - 1)


def test_tries_end_and_the_old_log_stands(log: SignedLog, s3: S3Server, bucket: Bucket) -> None:
    publish(log.source, bucket, 300)
    tries = TRIES_AFTER_THE_FIRST + 1
    s3.fault("PUT", "a/log/keys.json", Refuse(503, "SlowDown"), times=tries)
    with pytest.raises(LedgerError, match=r"keys.json cannot be written: status 503 SlowDown, tried 6 times"):
        publish(log.source, bucket, 600)
    assert s3.injected == {"SlowDown": tries}
    assert shown(s3) == 300
    s3.fault("PUT", "a/log/keys.json", Cut(done=False), times=tries)
    with pytest.raises(LedgerError, match=r"keys.json cannot be written: HTTP error.*, tried 6 times"):
        publish(log.source, bucket, 600)
    assert publish(log.source, bucket, 600).size == shown(s3) == 600


def test_refused_at_every_write_the_old_log_or_the_new_one_is_shown(
    tmp_path: Path, s3: S3Server, bucket: Bucket
) -> None:
    log = signed_log(tmp_path / "small", leaves=258)
    log.answer(b"a delta")
    publish(log.source, bucket, 250)
    before, done = dict(s3.objects), len(s3.requests)
    publish(log.source, bucket, 260)
    changes = [(item.method, item.key) for item in s3.requests[done:] if item.method in {"PUT", "DELETE"}]
    assert len(changes) > 10
    for method, key in changes:
        s3.objects.clear()
        s3.objects.update(before)
        s3.fault(method, key, Refuse(403, "AccessDenied"))
        with pytest.raises(LedgerError, match="status 403 AccessDenied"):
            publish(log.source, bucket, 260)
        assert shown(s3) == (260 if method == "DELETE" else 250)
        assert publish(log.source, bucket, 260).size == shown(s3) == 260
    log.store.close()
    assert s3.injected["AccessDenied"] == len(changes)


def test_another_log_and_an_older_backup_are_refused(log: SignedLog, s3: S3Server, bucket: Bucket) -> None:
    publish(log.source, bucket, 600)
    before = dict(s3.objects)
    backup = signed_log(log.folder / "backup", leaves=300)
    other = signed_log(log.folder / "bob", owner="bob", leaves=700)
    with backup.store, pytest.raises(LedgerForked, match="this ledger has 301"):
        publish(backup.source, bucket, 301)
    with other.store, pytest.raises(LedgerForked, match="holds the log perturb/local/7/"):
        publish(other.source, bucket, 700)
    assert s3.objects == before


# Refusals.


def test_a_checkpoint_that_may_not_be_read_is_not_one_that_is_not_there(
    log: SignedLog, s3: S3Server, bucket: Bucket
) -> None:
    assert published_checkpoint(log.source, bucket) is None
    s3.may_list = False
    with pytest.raises(LedgerError, match="checkpoint cannot be read: status 403 AccessDenied") as caught:
        publish(log.source, bucket, 600)
    assert "ListBucket" in caught.value.hint
    assert s3.order("PUT") == []


Setup = Callable[[S3Server, pytest.MonkeyPatch], object]
_REFUSED: dict[str, tuple[Setup, str, str]] = {
    "no such bucket": (lambda s3, _: setattr(s3, "bucket", "x"), "404 NoSuchBucket", "create the bucket"),
    "wrong key": (
        lambda _, env: env.setenv("AWS_ACCESS_KEY_ID", "AKID2"),
        "403 InvalidAccessKeyId",
        "AWS_ACCESS_KEY_ID",
    ),
    "wrong secret": (
        lambda _, env: env.setenv("AWS_SECRET_ACCESS_KEY", "hidden"),
        "403 SignatureDoes",
        "AWS_SECRET",
    ),
    "expired token": (lambda s3, _: setattr(s3, "token", "hidden"), "400 InvalidToken", "AWS_SESSION_TOKEN"),
    "wrong region": (
        lambda _, env: env.setenv("AWS_REGION", "eu-west-9"),
        "400 AuthorizationHeaderMalformed",
        "AWS_REGION",
    ),
    "no TLS": (lambda _, env: env.delenv("AWS_ALLOW_HTTP"), "no https:// address", "AWS_ALLOW_HTTP"),
    "half a key": (
        lambda _, env: env.delenv("AWS_SECRET_ACCESS_KEY"),
        "Missing SecretAccessKey",
        "AWS_SECRET_ACCESS_KEY",
    ),
    "nobody there": (
        lambda _, env: env.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        "be read: .*tried 6 times",
        "",
    ),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_refusals_are_named_and_say_no_secret(
    name: str,
    log: SignedLog,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [s3.secret, s3.token, "hidden"]
    setup, said, hint = _REFUSED[name]
    setup(s3, monkeypatch)
    with pytest.raises(LedgerError, match=said) as caught:
        publish(log.source, Bucket(PLACE, backoff_s=0.002), 600)
    assert hint in caught.value.hint
    told = caught.value.diagnostics() + "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "Canonical" not in told
    assert not any(secret in told for secret in secrets)
    assert s3.order("PUT") == []


def test_no_key_at_all(s3: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(LedgerError, match="there is no key") as caught:
        Bucket(PLACE, backoff_s=0.002).write("checkpoint", b"x")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(LedgerError, match="needs the package obstore") as caught:
        open_target(PLACE)
    assert caught.value.hint == "pip install 'perturbnet[s3]'"


@pytest.mark.parametrize(
    "place",
    [
        "s3://",
        "s3:///log",
        "s3://ab",
        "s3://Logs",
        "s3://logs/../x",
        "s3://logs//x",
        "s3://logs/x?y=z",
        "s3://key:secret@logs/x",
        "s3://logs/a b",
        "s3://logs/é",
    ],
)
def test_places_that_are_none(place: str) -> None:
    with pytest.raises(BundleError, match="no place in a bucket"):
        open_target(place)


def test_places_that_are_one(s3: S3Server) -> None:
    assert [str(open_target(place)) for place in ("s3://logs", "s3://logs/", "s3://logs/a/b/")] == [
        "s3://logs",
        "s3://logs",
        "s3://logs/a/b",
    ]
