"""The journal: what stands on disk and what the state says never part."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from perturbnet.errors import LedgerCorrupt, LedgerError, LedgerLocked
from perturbnet.ledger import fold
from perturbnet.ledger.journal import LEDGER_FILE, Journal
from perturbnet.ledger.leaves import ConfigLeaf, EpochLeaf, MetagraphLeaf, RulesLeaf, SkipLeaf
from perturbnet.rules.traversal import commit_to_keys

SECRET = bytes(32)
EPOCH = EpochLeaf(0, "f" * 64, 3, 720, commit_to_keys(SECRET, 3), "first")
RULES = RulesLeaf(1, 5, {}, {"history_size": 2, "min_processed_count": 1}, {}, {})
METAGRAPH = MetagraphLeaf(5, 1, [[0, "hot", "cold", 1, "", 0]])
CONFIG = ConfigLeaf(
    validator="v",
    netuid=1,
    code_version="0",
    model_name="m",
    model_digest="d",
    engine="e",
    environment={},
    dataset={},
    fingerprint="f",
    protocol_fingerprint="p",
)


def test_a_journal_is_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(CONFIG, RULES)
    journal.append_epoch(EPOCH, SECRET)
    journal.append(SkipLeaf(0, 0, 2, "unreadable"))
    state = journal.state
    journal.close()
    again = Journal(tmp_path)
    assert again.state == state == fold(again.store.entries())
    assert again.store.secret_of(2) == SECRET
    again.close()


def test_a_leaf_that_cannot_follow_never_reaches_the_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append_epoch(EPOCH, SECRET)
    before = journal.state
    with pytest.raises(LedgerError, match="not recorded: leaf 2: draw 2, expected 1"):
        journal.append(SkipLeaf(0, 0, 1, "fine"), SkipLeaf(0, 2, 0, "out of order"))
    assert journal.state is before
    assert journal.store.size == 1
    journal.close()
    Journal(tmp_path).close()  # and the file is none the worse


def test_a_disk_that_fails_leaves_the_state_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise LedgerError("nothing was recorded: the disk is full")

    monkeypatch.setattr(journal.store, "append", full)
    monkeypatch.setattr(journal.store, "append_epoch", full)
    with pytest.raises(LedgerError):
        journal.append(RULES)
    with pytest.raises(LedgerError):
        journal.append_epoch(EPOCH, SECRET)
    assert (journal.state.size, journal.state.rules, journal.state.epoch) == (0, None, None)
    journal.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(RULES)
    with pytest.raises(LedgerLocked):
        Journal(tmp_path)
    journal.close()


def test_a_damaged_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(CONFIG, RULES)
    journal.close()
    path = tmp_path / LEDGER_FILE
    damaged = path.read_bytes().replace(b'"history_size":2', b'"history_size":9')
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(LedgerCorrupt, match="leaf 1: expected hash"):
        Journal(tmp_path)
    assert path.read_bytes() == damaged
    path.rename(tmp_path / "aside")
    Journal(tmp_path).close()  # the refused one holds nothing


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(2):
        journal.record_config(CONFIG)
        journal.record_rules(RULES)
        journal.record_metagraph(METAGRAPH)
    journal.record_rules(replace(RULES, activation_block=99))
    journal.record_metagraph(replace(METAGRAPH, block=99))
    assert journal.store.size == 3
    journal.record_config(replace(CONFIG, engine="other"))
    journal.record_rules(replace(RULES, version=2))
    journal.record_metagraph(replace(METAGRAPH, neurons=[]))
    assert journal.store.size == 6
    journal.close()


def test_a_leaf_by_its_place(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(CONFIG, RULES)
    assert journal.leaf_at(1, RulesLeaf) == RULES
    with pytest.raises(LedgerCorrupt, match="expected a rules leaf at 0, found a config leaf"):
        journal.leaf_at(0, RulesLeaf)
    with pytest.raises(LedgerCorrupt, match="expected a rules leaf at 2, found nothing"):
        journal.leaf_at(2, RulesLeaf)
    journal.close()
