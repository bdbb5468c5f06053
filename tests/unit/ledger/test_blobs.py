"""Bytes named by digest: read back whole or not at all; retention takes them away, never a leaf."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from perturbnet.errors import ArtifactError, ArtifactMissing, DigestMismatch, LedgerError
from perturbnet.ledger import ArrivalRow, BlobStore, LedgerStore, forget_responses

DATA = b"a response's body"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "state" / "blobs")


def test_round_trip(blobs: BlobStore) -> None:
    assert blobs.put(DATA) == blobs.put(DATA) == DIGEST
    assert blobs.put(b"") == hashlib.sha256(b"").hexdigest()
    assert blobs.get(DIGEST) == DATA
    assert blobs.get(blobs.put(b"")) == b""
    assert [path.name for path in (blobs.folder / DIGEST[:2]).iterdir()] == [DIGEST]


def test_missing(blobs: BlobStore) -> None:
    with pytest.raises(ArtifactMissing, match=DIGEST):
        blobs.get(DIGEST)
    blobs.put(DATA)
    blobs.drop(DIGEST)
    blobs.drop(DIGEST)
    with pytest.raises(ArtifactMissing, match=DIGEST):
        blobs.get(DIGEST)


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA + b"x", DATA.replace(b"body", b"Body")])
def test_damaged_is_refused_and_written_anew(blobs: BlobStore, damage: bytes) -> None:
    blobs.put(DATA)
    (blobs.folder / DIGEST[:2] / DIGEST).write_bytes(damage)
    with pytest.raises(DigestMismatch, match=DIGEST) as caught:
        blobs.get(DIGEST)
    assert caught.value.got == hashlib.sha256(damage).hexdigest()
    assert blobs.put(DATA) == DIGEST
    assert blobs.get(DIGEST) == DATA


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1], f"{DIGEST}\n", "/" + DIGEST[1:]]
)
def test_what_is_no_digest_never_becomes_a_path(blobs: BlobStore, name: str) -> None:
    for use in (blobs.get, blobs.drop):
        with pytest.raises(ArtifactError, match="no digest"):
            use(name)


def test_folder_in_the_place_of_a_blob(blobs: BlobStore) -> None:
    (blobs.folder / DIGEST[:2] / DIGEST).mkdir(parents=True)
    with pytest.raises(ArtifactError, match="cannot be read"):
        blobs.get(DIGEST)
    with pytest.raises(LedgerError, match="was not recorded"):
        blobs.put(DATA)


def test_file_and_every_new_folder_are_flushed_in_order(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut drops what was not flushed: the bytes, their name, the names of the folders above."""
    flushed: list[str] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name if is_folder else "the bytes")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    above = blobs.folder.parent.parent.name
    blobs.put(DATA)
    assert flushed == [above, "state", "blobs", "the bytes", DIGEST[:2]]
    flushed.clear()
    blobs.put(DATA)
    assert flushed == []


def test_disk_that_fails_leaves_no_blob(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LedgerError, match="No space left on device"):
        blobs.put(DATA)
    monkeypatch.undo()
    with pytest.raises(ArtifactMissing):
        blobs.get(DIGEST)
    assert blobs.get(blobs.put(DATA)) == DATA


# Retention


@pytest.fixture
def store(filled: Path) -> LedgerStore:
    return LedgerStore(filled)


def note(store: LedgerStore, challenge: int, uid: int, body: str) -> None:
    store.note_arrival(ArrivalRow(challenge, uid, "", "ok", body, "", "", 0))


def test_old_responses_go_and_leaves_stay(store: LedgerStore, blobs: BlobStore) -> None:
    bodies = {challenge: blobs.put(b"%d" % challenge) for challenge in (3, 7, 20, 150)}
    for challenge, body in bodies.items():
        note(store, challenge, 1, body)
        note(store, challenge, 2, "")
    leaves = list(store.entries())
    assert forget_responses(store, blobs, keep_rounds=4) == 0
    assert forget_responses(store, blobs, keep_rounds=2) == 4
    assert store.challenges_with_arrivals() == [20, 150]
    for challenge, body in bodies.items():
        if challenge >= 20:
            assert blobs.get(body) == b"%d" % challenge
            assert len(store.arrivals(challenge)) == 2
        else:
            with pytest.raises(ArtifactMissing):
                blobs.get(body)
            assert store.arrivals(challenge) == []
    assert list(store.entries()) == leaves
    assert forget_responses(store, blobs, keep_rounds=2) == 0
    store.close()


def test_body_that_a_kept_response_names_too_stays(store: LedgerStore, blobs: BlobStore) -> None:
    same = blobs.put(DATA)
    for challenge in (3, 7):
        note(store, challenge, 1, same)
    assert store.bodies_before(7) == []
    assert forget_responses(store, blobs, keep_rounds=1) == 1
    assert blobs.get(same) == DATA
    note(store, 9, 1, "")
    assert store.bodies_before(9) == [same]
    assert forget_responses(store, blobs, keep_rounds=1) == 1
    with pytest.raises(ArtifactMissing):
        blobs.get(same)
    store.close()


def test_crash_between_blobs_and_notes_is_made_good_by_the_next_call(
    store: LedgerStore, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(store, 3, 1, blobs.put(DATA))
    note(store, 7, 1, "")

    def crash(_: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "forget_arrivals", crash)
    with pytest.raises(KeyboardInterrupt):
        forget_responses(store, blobs, keep_rounds=1)
    monkeypatch.undo()
    assert store.challenges_with_arrivals() == [3, 7]
    assert forget_responses(store, blobs, keep_rounds=1) == 1
    assert store.challenges_with_arrivals() == [7]
    store.close()


def test_newest_round_is_always_kept(store: LedgerStore, blobs: BlobStore) -> None:
    with pytest.raises(ValueError, match="keep_rounds is 0"):
        forget_responses(store, blobs, keep_rounds=0)
    assert forget_responses(store, blobs, keep_rounds=1) == 0
    store.close()
