"""A published log is read as it was written; every change of a byte, file or name is refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perturbnet.errors import BundleError, BundleMissing, BundleTampered, LedgerForked, NoteError
from perturbnet.ledger import merkle
from perturbnet.ledger.leaves import GenesisLeaf
from perturbnet.transparency.anchors import Anchor
from perturbnet.transparency.bundle import Limits, blob_path, open_bundle
from perturbnet.transparency.checkpoints import Checkpoint, sign_checkpoint
from perturbnet.transparency.delegation import check_owner
from perturbnet.transparency.proofs import parse_proof
from perturbnet.transparency.publishing import publish
from perturbnet.transparency.tiles import encode_entries
from perturbnet.wire import canonical_json
from tests.support.ledger.samples import skip
from tests.support.transparency.logs import NETUID, SignedLog, hotkey, log_key


def test_it_comes_back(published: SignedLog) -> None:
    with open_bundle(published.folder / "bundle") as bundle:
        assert bundle.checkpoint == Checkpoint(published.key.name, 600, published.store.root())
        assert list(bundle.entries()) == list(published.store.entries())
        assert list(bundle.leaf_bytes(250, 260)) == published.store.leaf_bytes(250, 260)
        assert list(bundle.entries(600)) == []
        assert bundle.entry(0).leaf == next(published.store.entries()).leaf
        assert isinstance(bundle.entry(0).leaf, GenesisLeaf)
        authority = bundle.verify_signature()
        check_owner(authority, hotkey=published.owner.ss58_address, netuid=NETUID)
        assert bundle.anchors == []
        for index in (0, 255, 256, 599):
            leaf = bytes.fromhex(bundle.entry(index).hash)
            proof = bundle.prove_inclusion(index)
            assert merkle.verify_inclusion(leaf, index, 600, proof, bundle.checkpoint.root)
            found = parse_proof(bundle.proof(index).encode()).verify(leaf, [authority.key])
            assert found == bundle.checkpoint
        old = bundle.root_at(300)
        assert old == published.store.subtree(0, 300)
        assert merkle.verify_consistency(300, 600, bundle.prove_consistency(300), old, bundle.checkpoint.root)
        assert bundle.root_at(0) == merkle.EMPTY_ROOT


def test_what_is_not_there_cannot_be_asked_for(published: SignedLog) -> None:
    with open_bundle(published.folder / "bundle") as bundle:
        for ask in (
            lambda: list(bundle.entries(0, 601)),
            lambda: list(bundle.entries(-1)),
            lambda: bundle.prove_inclusion(600),
            lambda: bundle.prove_consistency(601),
            lambda: bundle.root_at(601),
            lambda: bundle.blob("../" * 20),
            lambda: bundle.blob("AB" * 32),
        ):
            with pytest.raises(BundleError):
                ask()
        with pytest.raises(BundleMissing, match="is not in"):
            bundle.blob("ab" * 32)


def test_blobs(log: SignedLog) -> None:
    digest = log.answer(b"delta")
    publish(log.source, log.target, log.store.size)
    path = log.target.path / blob_path(digest)
    with open_bundle(log.folder / "bundle", Limits(max_blob_bytes=5)) as bundle:
        assert bundle.blob(digest) == b"delta"
        path.unlink()
        path.write_bytes(b"Delta")
        with pytest.raises(BundleTampered, match="its bytes have the digest"):
            bundle.blob(digest)
        path.write_bytes(b"delta!")
        with pytest.raises(BundleError, match="at most 5 are allowed"):
            bundle.blob(digest)


def test_anchors_are_listed(log: SignedLog) -> None:
    made = [Anchor(NETUID, 10, log.store.subtree(0, 10), bytes(32), 77)]
    publish(log.source, log.target, 600, anchors=[*made, Anchor(NETUID, 601, bytes(32), bytes(32), 78)])
    with open_bundle(log.folder / "bundle") as bundle:
        assert bundle.anchors == made


def read_all(path: Path) -> None:
    """What an audit reads."""
    with open_bundle(path) as bundle:
        bundle.verify_signature()
        list(bundle.entries())
        _ = bundle.anchors


def _flip(name: str, place: int = 40) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[place] ^= 1
        (path / name).write_bytes(data)

    return flip


def _put(name: str, data: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        (path / name).write_bytes(data)

    return put


def _cut(name: str, length: int) -> Callable[[Path], None]:
    return lambda path: _put(name, (path / name).read_bytes()[:-length])(path)


def _link(name: str, to: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        (path / name).unlink()
        (path / name).symlink_to(to)

    return link


def _pipe(name: str) -> Callable[[Path], None]:
    def pipe(path: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return pipe


def _folder(name: str) -> Callable[[Path], None]:
    def folder(path: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return folder


def _drop(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def _resigned(change: Callable[[list[bytes]], list[bytes]], key: str = "1") -> Callable[[Path], None]:
    """Entries and tiles rewritten in the first 256 leaves only, under a new root signed with some key."""

    def rewrite(path: Path) -> None:
        with open_bundle(path) as bundle:
            leaves = change(list(bundle.leaf_bytes()))
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        signing = log_key(key, hotkey("alice"))
        note = sign_checkpoint(Checkpoint(signing.name, len(leaves), merkle.root(hashes)), signing)
        (path / "checkpoint").write_bytes(note.encode())
        (path / "tile/entries/000").write_bytes(encode_entries(leaves[:256]))
        (path / "tile/0/000").write_bytes(b"".join(hashes[:256]))
        level_1 = [merkle.root(hashes[place : place + 256]) for place in (0, 256)]
        (path / "tile/1/000.p/2").write_bytes(b"".join(level_1))

    return rewrite


def _another_root(path: Path) -> None:
    note = (path / "checkpoint").read_bytes()
    root = note.split(b"\n")[2]
    (path / "checkpoint").write_bytes(note.replace(root, b"A" * 43 + b"="))


_FAULTS: dict[str, tuple[Callable[[Path], None], type[BundleError | NoteError], str]] = {
    "no checkpoint": (_drop("checkpoint"), BundleMissing, "checkpoint is not in"),
    "empty checkpoint": (_put("checkpoint", b""), NoteError, "without an empty line"),
    "long checkpoint": (_put("checkpoint", b"a" * 300_000), BundleError, "at most 262144"),
    "another root": (_another_root, BundleTampered, "the tiles of 600 leaves have the root"),
    "byte of a leaf": (_flip("tile/entries/000"), BundleTampered, "leaf 0: expected hash"),
    "byte of the last leaves": (_flip("tile/entries/002.p/88", 300), BundleTampered, "expected hash"),
    "length of a leaf": (_flip("tile/entries/001", 0), BundleError, "ends in its leaf"),
    "byte of a tile": (_flip("tile/0/001"), BundleTampered, "tile/0/001: its root is not"),
    "byte of the edge": (_flip("tile/0/002.p/88"), BundleTampered, "the tiles of 600 leaves have the root"),
    "byte of an upper tile": (_flip("tile/1/000.p/2"), BundleTampered, "tiles of 600 leaves have the root"),
    "tile cut": (_cut("tile/0/001", 32), BundleError, "expected 8192"),
    "entries cut in a leaf": (_cut("tile/entries/002.p/88", 3), BundleError, "ends in its leaf 87"),
    "no tile": (_drop("tile/0/000"), BundleMissing, "tile/0/000 is not in"),
    "no edge": (_drop("tile/0/002.p/88"), BundleMissing, "and tile/0/002 is not either"),
    "no entries": (_drop("tile/entries/001"), BundleMissing, "tile/entries/001 is not in"),
    "endless file": (_link("tile/0/000", "/dev/zero"), BundleError, "no plain file"),
    "pipe": (_pipe("tile/0/000"), BundleError, "no plain file"),
    "folder": (_folder("tile/0/000"), BundleError, "cannot be read|no plain file"),
    "anchors of another form": (_put("anchors.json", b'[{"block":1}]'), BundleError, "an anchor is"),
    "anchors not canonical": (_put("anchors.json", b"[ ]"), BundleError, "anchors.json"),
    "anchor of another magic": (
        _put("anchors.json", canonical_json.encode([{"block": 1, "payload": "00" * 80}])),
        BundleError,
        "begins with",
    ),
    "keys of another form": (_put("keys.json", b"{}"), BundleError, "no list of indices"),
    "keys that are none": (_put("keys.json", b"[5]"), BundleError, "leaf 5, which is a skip leaf"),
    "keys beyond": (_put("keys.json", b"[600]"), BundleError, "leaf 600 of a log of 600"),
    "rewritten with another key": (
        _resigned(lambda leaves: [leaves[0], skip(9).encode(), *leaves[2:]], "2"),
        NoteError,
        "no known key signed",
    ),
    "no genesis": (
        _resigned(lambda leaves: [skip(9).encode(), *leaves[1:]]),
        NoteError,
        "leaf 0 is a skip leaf",
    ),
    "a leaf of no kind": (
        _resigned(lambda leaves: [leaves[0], b'{"kind":"x"}', *leaves[2:]]),
        BundleError,
        "leaf 1: unknown kind",
    ),
    "a leaf that is not canonical": (
        _resigned(lambda leaves: [leaves[0], b'{ "kind":"x"}', *leaves[2:]]),
        BundleError,
        "leaf 1: a leaf is not",
    ),
}


@pytest.mark.parametrize("name", _FAULTS)
def test_every_fault_has_its_name(published: SignedLog, name: str) -> None:
    fault, kind, said = _FAULTS[name]
    fault(published.target.path)
    with pytest.raises(kind, match=said):
        read_all(published.target.path)


def test_the_owner_s_own_rewrite_is_a_valid_log(published: SignedLog) -> None:
    """Only anchors and witnesses can tell: that is why an audit without anchors fails."""
    _resigned(lambda leaves: [leaves[0], skip(9).encode(), *leaves[2:]])(published.target.path)
    read_all(published.target.path)


def test_another_s_log_is_told(published: SignedLog) -> None:
    with open_bundle(published.target.path) as bundle:
        authority = bundle.verify_signature()
    with pytest.raises(LedgerForked, match="belongs to"):
        check_owner(authority, hotkey=hotkey("bob").ss58_address, netuid=NETUID)
    with pytest.raises(LedgerForked, match="on netuid 7, not to"):
        check_owner(authority, hotkey=published.owner.ss58_address, netuid=NETUID + 1)


def test_more_leaves_than_a_reader_takes(published: SignedLog) -> None:
    with pytest.raises(BundleError, match="a log of 600 leaves; 599 are allowed"):
        open_bundle(published.target.path, Limits(max_leaves=599))


def test_a_log_that_grew_meanwhile(published: SignedLog) -> None:
    with open_bundle(published.target.path) as bundle:
        published.grow(*[skip(number) for number in range(300)])
        publish(published.source, published.target, 900)
        assert not (published.target.path / "tile/entries/002.p").exists()
        assert len(list(bundle.entries())) == 600


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_any_file_are_refused_or_seen_through(published: SignedLog, data: st.DataObject) -> None:
    files = sorted(path for path in published.target.path.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before)))
    length = data.draw(st.integers(0, 40))
    changed = before[:place] + data.draw(st.binary(max_size=40)) + before[place + length :]
    path.unlink()
    path.write_bytes(changed)
    try:
        read_all(published.target.path)
    except (BundleError, NoteError):
        return
    finally:
        path.write_bytes(before)
    assert changed == before or path.name in {"anchors.json", "keys.json", "checkpoint"}
