"""Backups: whole and checked, of a running validator too; what is older than the chain is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perturbnet.cli import main
from perturbnet.config import load_settings
from perturbnet.errors import DigestMismatch, LedgerCorrupt, LedgerError
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.journal import LEDGER_FILE, Journal
from perturbnet.ledger.leaves import ChallengeLeaf, SkipLeaf
from perturbnet.runtime.clock import SystemClock
from perturbnet.telemetry import open_mirror
from perturbnet.transparency.anchors import NO_PREVIOUS, Anchor
from perturbnet.transparency.log_key import create_log_key
from perturbnet.transparency.signing import begin_log
from perturbnet.validator.backups import (
    REQUEST,
    draws_to_skip,
    fill_requests,
    read_backup,
    write_backup,
)
from perturbnet.validator.publication import take_up_anchor
from perturbnet.validator.state_check import check_state
from perturbnet.validator.watch import Watch
from tests.support.fakes import NETUID, MemorySource
from tests.support.validator.world import World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A validator that has run for three rounds; the command's environment names it."""
    monkeypatch.setattr("os.fsync", lambda handle: None)  # no power is cut here
    made = make_world(tmp_path, PERTURB_KEEP_BODIES_ROUNDS="1000")
    made.source = MemorySource(40)
    with closing(Journal(made.state_dir)) as journal:
        begin_log(journal, made.state_dir, made.keypair, network="local", netuid=NETUID, clock=SystemClock())
    made.run(3)
    for name, text in made._settings().items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("PERTURB_METRICS_PORT", "0")
    return made


def perturb(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["state", *map(str, words)])


def anchor(world: World, size: int) -> None:
    """Pin the first leaves on chain."""
    with LedgerStore(world.state_dir / LEDGER_FILE) as store:
        pinned = Anchor(NETUID, size, store.subtree(0, size), NO_PREVIOUS)
    asyncio.run(world.chain.set_commitment(world.keypair, pinned.payload()))


def hashes(state_dir: Path) -> list[str]:
    with LedgerStore(state_dir / LEDGER_FILE) as store:
        return [entry.hash for entry in store.entries()]


def lose(world: World) -> None:
    """The disk is gone."""
    shutil.rmtree(world.state_dir)


def test_verify_counts_what_it_looked_at(world: World) -> None:
    done = perturb("verify", "--json", "-")
    facts = json.loads(done.stdout)
    assert done.exit_code == 0
    assert facts["leaves"] == len(hashes(world.state_dir))
    assert (facts["rounds"], facts["open round"], facts["blobs missing"]) == (3, False, 0)
    assert facts["blobs"] > 0


def test_verify_refuses_a_flipped_bit_in_a_blob(world: World) -> None:
    blob = next((world.state_dir / "deltas").glob("*/*"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    done = perturb("verify")
    assert done.exit_code == 3
    assert blob.name in done.output


def test_verify_counts_a_blob_that_is_gone(world: World) -> None:
    next((world.state_dir / "deltas").glob("*/*")).unlink()
    done = perturb("verify")
    assert done.exit_code == 1
    assert "blobs missing   1" in done.output


def test_verify_refuses_a_lost_or_foreign_key(world: World) -> None:
    key = world.state_dir / "log.key"
    text = key.read_text()
    key.unlink()
    assert "nobody can sign" in perturb("verify").output
    create_log_key(key, "perturb/another")
    assert "is not the key" in perturb("verify").output
    key.write_text(text)
    assert perturb("verify").exit_code == 0


def test_a_backup_restores_to_the_same_log_and_repeats_nothing(world: World, tmp_path: Path) -> None:
    before = hashes(world.state_dir)
    assert perturb("backup", tmp_path / "backup").exit_code == 0
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    world.run(5)
    lost = {leaf.row for leaf in challenges(world)}
    lose(world)
    done = perturb("restore", tmp_path / "backup", "--skip-draws", "4", "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["draws skipped"] == 4
    assert hashes(world.state_dir)[: len(before)] == before
    kept = {leaf.row for leaf in challenges(world)}
    entries = world.run(6)
    assert check_state(world.state_dir).missing == 0
    asked = [entry.leaf.row for entry in entries[len(before) :] if isinstance(entry.leaf, ChallengeLeaf)]
    assert len(asked) == 3
    assert not set(asked) & (lost | kept), "an image was asked again after the restoration"
    assert sum(isinstance(entry.leaf, SkipLeaf) for entry in entries) == 4


def challenges(world: World) -> list[ChallengeLeaf]:
    return [entry.leaf for entry in world.entries() if isinstance(entry.leaf, ChallengeLeaf)]


def test_by_default_it_skips_as_many_draws_as_time_allowed(world: World, tmp_path: Path) -> None:
    assert draws_to_skip(10_000, 250_000, interval_s=120, attempts=12) == 14
    assert draws_to_skip(10_000, 10_001, interval_s=0, attempts=3) == 4
    assert draws_to_skip(10_000, 9_000, interval_s=120, attempts=12) == 12, "a clock that went back"
    perturb("backup", tmp_path / "backup")
    lose(world)
    done = perturb("restore", tmp_path / "backup", "--json", "-")
    assert json.loads(done.stdout)["draws skipped"] == 37, "all: the fakes' clock is of 1970"


def test_restore_refuses_what_the_chain_says_is_too_old(world: World, tmp_path: Path) -> None:
    perturb("backup", tmp_path / "old")
    world.run(5)
    anchor(world, len(hashes(world.state_dir)))
    perturb("backup", tmp_path / "new")
    newest = hashes(world.state_dir)
    lose(world)
    done = perturb("restore", tmp_path / "old")
    assert done.exit_code == 3
    assert "is an older backup or another log" in done.output
    assert list(world.state_dir.iterdir()) == []
    assert perturb("restore", tmp_path / "new").exit_code == 0
    assert hashes(world.state_dir)[: len(newest)] == newest


def test_without_the_chain_the_validator_s_start_still_refuses(world: World, tmp_path: Path) -> None:
    perturb("backup", tmp_path / "old")
    world.run(5)
    anchor(world, len(hashes(world.state_dir)))
    lose(world)
    assert perturb("restore", tmp_path / "old", "--without-chain", "--skip-draws", "0").exit_code == 0
    with (
        closing(Journal(world.state_dir)) as journal,
        pytest.raises(LedgerError, match="does not begin with"),
    ):
        asyncio.run(take_up_anchor(journal, world.chain, world.keypair.ss58_address))


def test_restore_never_writes_over_anything(world: World, tmp_path: Path) -> None:
    perturb("backup", tmp_path / "backup")
    before = hashes(world.state_dir)
    done = perturb("restore", tmp_path / "backup")
    assert done.exit_code == 3
    assert "is not empty" in done.output
    assert hashes(world.state_dir) == before


def test_a_backup_never_writes_over_anything(world: World, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    assert "is there already" in perturb("backup", tmp_path / "backup").output


@pytest.mark.parametrize("name", ["ledger.sqlite", "log.key", "blob"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(name: str, world: World, tmp_path: Path) -> None:
    perturb("backup", tmp_path / "backup")
    lose(world)
    path = tmp_path / "backup" / name
    if name == "blob":
        path = next((tmp_path / "backup" / "deltas").glob("*/*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = perturb("restore", tmp_path / "backup")
    assert done.exit_code == 3
    assert not any(world.state_dir.iterdir() if world.state_dir.exists() else [])


def test_a_folder_without_its_manifest_is_no_backup(world: World, tmp_path: Path) -> None:
    perturb("backup", tmp_path / "backup")
    (tmp_path / "backup" / "backup.json").unlink()
    assert "is no backup" in perturb("restore", tmp_path / "backup").output
    (tmp_path / "backup" / "backup.json").write_text("{")
    with pytest.raises(LedgerCorrupt):
        read_backup(tmp_path / "backup")


def test_a_manifest_may_not_name_a_file_elsewhere(world: World, tmp_path: Path) -> None:
    perturb("backup", tmp_path / "backup")
    path = tmp_path / "backup" / "backup.json"
    facts = json.loads(path.read_text())
    facts["files"]["../chain.sqlite"] = "0" * 64
    path.write_text(json.dumps(facts))
    with pytest.raises(LedgerCorrupt, match=r"'\.\./chain\.sqlite' is not there"):
        read_backup(tmp_path / "backup")


def test_a_full_disk_leaves_no_half_backup(world: World, tmp_path: Path) -> None:
    def fail(_target: Path) -> None:
        raise OSError(28, "No space left on device", "ledger.sqlite")

    with pytest.raises(LedgerError, match="No space left on device"):
        write_backup(world.state_dir, tmp_path / "backup", fail, SystemClock())
    assert not (tmp_path / "backup").exists()
    assert list(tmp_path.glob(".backup*")) == []


def test_a_running_validator_makes_the_copy_itself_while_it_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = world.open()
    store, settings = validator.journal.store, load_settings(world._settings()).settings
    watch = Watch(
        settings, validator.journal, world.keypair.ss58_address, open_mirror(settings, {}), world.clock
    )
    watch.loopback.start(0)
    monkeypatch.setenv("PERTURB_METRICS_PORT", str(watch.loopback.port))
    stop = threading.Event()

    async def go_on() -> None:
        while not stop.is_set():
            await validator.rounds.run()
            await validator.rounds.finish_telling()

    thread = threading.Thread(target=lambda: asyncio.run(go_on()))
    thread.start()
    try:
        while validator.journal.state.rounds < 5:
            time.sleep(0.01)
        done = perturb("backup", tmp_path / "backup", "--json", "-")
    finally:
        stop.set()
        thread.join()
        watch.close()
    assert done.exit_code == 0, done.output
    all_hashes = [entry.hash for entry in store.entries()]
    validator.journal.close()
    copied = hashes(tmp_path / "backup")
    assert copied == all_hashes[: len(copied)]
    assert json.loads(done.stdout)["leaves"] == len(copied)
    assert list(world.state_dir.glob(".backup*")) == []
    assert perturb("verify", tmp_path / "backup").exit_code == 0


def test_nobody_who_cannot_write_there_gets_a_copy(world: World) -> None:
    taken = world.state_dir / REQUEST.replace("*", "taken")
    taken.write_bytes(b"not empty")
    link = world.state_dir / REQUEST.replace("*", "link")
    (world.folder / "elsewhere").touch()
    link.symlink_to(world.folder / "elsewhere")
    with LedgerStore(world.state_dir / LEDGER_FILE) as store:
        assert fill_requests(store, world.state_dir) == b"{}"
    assert taken.read_bytes() == b"not empty"
    assert (world.folder / "elsewhere").read_bytes() == b""


def test_a_locked_ledger_and_nobody_on_loopback_is_said(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LedgerStore(world.state_dir / LEDGER_FILE):
        assert "PERTURB_METRICS_PORT is 0" in perturb("backup", tmp_path / "backup").output
        monkeypatch.setenv("PERTURB_METRICS_PORT", "1")
        done = perturb("backup", tmp_path / "backup")
    assert done.exit_code == 3
    assert "no validator answers on 127.0.0.1:1" in done.output
    assert list(world.state_dir.glob(".backup*")) == []
    assert not (tmp_path / "backup").exists()


def test_a_damaged_ledger_gives_no_backup(world: World, tmp_path: Path) -> None:
    blob = next((world.state_dir / "deltas").glob("*/*"))
    blob.write_bytes(b"something else")
    with pytest.raises(DigestMismatch), LedgerStore(world.state_dir / LEDGER_FILE) as store:
        write_backup(world.state_dir, tmp_path / "backup", store.copy_to, SystemClock())
    assert not (tmp_path / "backup").exists()
