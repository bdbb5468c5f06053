"""The tree beside the leaves: roots, proofs and heads, also where one was tampered with behind the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import LedgerStore, merkle
from perturbnet.ledger.leaves import MAX_LEAF_BYTES
from tests.support.ledger.samples import SECRET, epoch, plain, random_log, skip

LEAVES = [skip(number) for number in range(70_000)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70,000 leaves: nodes of two levels."""
    path = tmp_path_factory.mktemp("large") / "ledger.sqlite"
    with LedgerStore(path) as store:
        for start in range(0, len(LEAVES), 10_000):
            store.append(LEAVES[start : start + 10_000])
    return path


def test_roots_and_proofs_of_a_large_log(large: Path) -> None:
    hashes = [merkle.leaf_hash(leaf.encode()) for leaf in LEAVES]
    with LedgerStore(large) as store:
        assert store.root() == merkle.root(hashes)
        for size in (1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000):
            assert store.subtree(0, size) == merkle.root(hashes[:size])
        for index in (0, 255, 256, 33_333, 69_999):
            proof = merkle.inclusion_proof(index, store.size, store.subtree)
            assert merkle.verify_inclusion(hashes[index], index, store.size, proof, store.root())
        for old in (1, 256, 1000, 65_536, 69_999):
            proof = merkle.consistency_proof(old, store.size, store.subtree)
            old_root = merkle.root(hashes[:old])
            assert merkle.verify_consistency(old, store.size, proof, old_root, store.root())
        assert store.hashes(0, 5, 8) == hashes[5:8]
        assert store.hashes(2, 0, 1) == [merkle.root(hashes[:65_536])]
        assert store.leaf_bytes(69_998, 80_000) == [leaf.encode() for leaf in LEAVES[69_998:]]
        store.verify()


def test_the_tree_goes_on_after_reopening(path: Path) -> None:
    log = random_log(seed=4, length=700)
    hashes = [bytes.fromhex(entry.hash) for entry in log.entries]
    for start in range(0, 700, 90):
        with LedgerStore(path) as store:
            store.append([entry.leaf for entry in log.entries[start : start + 90]])
            assert store.root() == merkle.root(hashes[: start + 90])
            store.verify()


def test_an_epoch_and_the_leaves_before_it_are_one_transaction(path: Path) -> None:
    with LedgerStore(path) as store:
        assert store.append_epoch(epoch(), SECRET, after=[skip(0), skip(1)]).position == 2
        assert store.secret_of(2) == SECRET
        with pytest.raises(LedgerError, match="draw is '1'"):
            store.append_epoch(epoch(), SECRET, after=[plain(type(skip(0)), draw="1")])
        assert store.size == 3


def test_a_leaf_that_no_published_log_could_hold_is_refused(path: Path) -> None:
    with LedgerStore(path) as store:
        store.append([skip(0, "x" * (MAX_LEAF_BYTES - 60))])
        with pytest.raises(LedgerError, match=r"a skip leaf of \d+ bytes; 65535 are allowed"):
            store.append([skip(1), skip(2, "x" * MAX_LEAF_BYTES)])
        assert store.size == 1


def rewrite(path: Path, statement: str) -> None:
    """Change a table of a closed ledger, its triggers left as they were."""
    with closing(sqlite3.connect(path)) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.execute(statement)
        for _, sql in triggers:
            db.execute(sql)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


HASHED = merkle.leaf_hash(skip(7, "rewritten").encode()).hex()
BODY = skip(7, "rewritten").encode().hex()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"UPDATE leaves SET body = x'{BODY}' WHERE position = 7", "leaf 7: expected hash"),
        (
            f"UPDATE leaves SET body = x'{BODY}', hash = x'{HASHED}' WHERE position = 7",
            "node 0 of level 1 is not",
        ),
        (
            "UPDATE nodes SET hash = zeroblob(32) WHERE level = 1 AND position = 100",
            "node 100 of level 1 is not",
        ),
        ("DELETE FROM nodes WHERE level = 1 AND position = 100", "some are missing"),
        (f"UPDATE leaves SET hash = x'{HASHED}' WHERE position = 69998", "leaf 69998: expected hash"),
        ("DELETE FROM leaves WHERE position = 300", "leaf 300 is missing, the next is 301"),
        ("UPDATE heads SET root = zeroblob(32) WHERE size = 20000", "20000 leaves: expected root 0000"),
        ("INSERT INTO heads VALUES (20001, zeroblob(32))", "20001 leaves: expected root 0000"),
    ],
)
def test_an_old_leaf_rewritten_is_found_by_verify(
    large: Path, tmp_path: Path, statement: str, said: str
) -> None:
    copy = tmp_path / "ledger.sqlite"
    copy.write_bytes(large.read_bytes())
    rewrite(copy, statement)
    with LedgerStore(copy) as store, pytest.raises(LedgerCorrupt, match=said):
        store.verify()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM leaves WHERE position = 69999", "69999 leaves, but its newest head is of 70000"),
        ("DELETE FROM heads WHERE size = 70000", "70000 leaves, but its newest head is of 60000"),
        ("UPDATE heads SET root = zeroblob(32) WHERE size = 70000", "70000 leaves: expected root 0000"),
        ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 2", "70000 leaves: expected root"),
        ("DELETE FROM nodes WHERE level = 2", "of the hashes 272 to 273 of level 2 some are missing"),
    ],
)
def test_a_tree_that_does_not_give_its_head_is_refused_on_opening(
    large: Path, tmp_path: Path, statement: str, said: str
) -> None:
    copy = tmp_path / "ledger.sqlite"
    copy.write_bytes(large.read_bytes())
    rewrite(copy, statement)
    with pytest.raises(LedgerCorrupt, match=said):
        LedgerStore(copy)
