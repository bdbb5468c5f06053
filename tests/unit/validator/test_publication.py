"""Publishing and anchoring: old enough, chained, within the budget, and never two histories."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perturbnet.chain import LocalChain, Rules
from perturbnet.config import load_settings
from perturbnet.deltas import MAGIC
from perturbnet.errors import ChainTimeout, LedgerForked, NoteError
from perturbnet.identity import Keypair
from perturbnet.ledger.leaves import MetagraphLeaf
from perturbnet.transparency.anchors import (
    NO_PREVIOUS,
    Anchor,
    check_chain,
    check_pinned,
    parse_anchors,
    read_commitment,
)
from perturbnet.transparency.bundle import blob_path, open_bundle
from perturbnet.transparency.log_key import KEY_FILE
from perturbnet.transparency.places import Folder
from perturbnet.validator.journal import Journal
from perturbnet.validator.publication import Horizon, Publication, forget_old_deltas, open_publication
from perturbnet.validator.signing import begin_log, read_owner, rotate_key
from tests.fakes import VirtualClock
from tests.unit.ledger.samples import started
from tests.unit.transparency.logs import hotkey

NETUID = 3
RULES = Rules(commit_reveal_enabled=True, tempo=20, reveal_period_epochs=2, immunity_period=0)


@pytest.fixture
def chain(tmp_path: Path) -> LocalChain:
    return make_chain(tmp_path / "chain.sqlite", RULES)


def make_chain(path: Path, rules: Rules) -> LocalChain:
    made = LocalChain.create(path, netuid=NETUID, rules=rules, block_time_ms=0, clock=VirtualClock())
    asyncio.run(made.register(hotkey("alice").ss58_address, hotkey("cold").ss58_address, 10**12))
    return made


def live(
    folder: Path,
    chain: LocalChain,
    work: Callable[[Publication], Any],
    *,
    owner: str = "alice",
    **settings: str,
) -> Any:
    """A validator's process: open the log, check it, do some work on its publication, end."""

    async def main() -> Any:
        keypair: Keypair = hotkey(owner)
        journal = Journal(folder / "state")
        try:
            source = begin_log(
                journal, folder / "state", keypair, network="local", netuid=NETUID, clock=VirtualClock()
            )
            place = {"HOME": str(folder), "PERTURB_PUBLISH_TO": str(folder / "bundle")}
            loaded = load_settings({"NETWORK": "finney", **place, **settings}).settings
            publication = await open_publication(loaded, journal, chain, keypair, source)
            assert publication is not None
            return await work(publication)
        finally:
            journal.close()

    return asyncio.run(main())


async def write(publication: Publication, count: int = 1) -> None:
    """Leaves of the present block."""
    block = await publication.chain.block()
    for _ in range(count):
        size = publication.journal.state.size
        publication.journal.append(MetagraphLeaf(block, NETUID, [[0, f"hot{size}", "cold", 1, "", 0]]))


async def day(publication: Publication, steps: int = 40, blocks: int = 10) -> None:
    """Leaves, a publication and some blocks, again and again."""
    for _ in range(steps):
        await write(publication, 3)
        await publication.run()
        await publication.chain.advance(blocks)  # type: ignore[attr-defined]


def on_chain(chain: LocalChain) -> Anchor:
    found = read_commitment(asyncio.run(chain.commitment(hotkey("alice").ss58_address)))
    assert found is not None
    return found[0]


# What is old enough


def test_the_log_is_cut_between_rounds() -> None:
    log = started()
    log.add(log.challenge(1, 2, block=10))
    log.add(log.receipt(1, block=12), log.receipt(2, block=12))
    second = log.add(log.challenge(1, block=20))
    horizon = Horizon()
    horizon.look(log.entries)
    sizes = {block: horizon.size_at(block, round_is_open=True) for block in (0, 99, 100, 200)}
    assert sizes == {0: 2, 99: 2, 100: second.position, 200: second.position}  # leaf 2 is of block 100
    log.add(log.receipt(1, block=120))
    horizon.look(log.entries[horizon.looked_at :])
    assert horizon.size_at(119, round_is_open=False) == second.position
    assert horizon.size_at(120, round_is_open=False) == len(log.entries)
    assert not horizon.cuts  # a log that is published at once keeps none
    third = log.add(log.challenge(1, block=130))
    horizon.look(log.entries[horizon.looked_at :])
    assert horizon.size_at(129, round_is_open=True) == third.position


def test_leaves_wait_for_the_reveal(tmp_path: Path, chain: LocalChain) -> None:
    async def work(publication: Publication) -> None:
        await publication.chain.advance(5)  # type: ignore[attr-defined]
        await write(publication, 4)
        await publication.run()
        assert not (tmp_path / "bundle").exists()
        await publication.chain.advance(59)  # type: ignore[attr-defined]
        await publication.run()
        assert publication.size <= 1
        await publication.chain.advance(1)  # type: ignore[attr-defined]
        await publication.run()
        assert publication.size == 5  # 3 epochs of 20 blocks later

    live(tmp_path, chain, work)


# Anchors


def test_a_day_of_anchors_is_chained_and_pins_what_is_published(tmp_path: Path, chain: LocalChain) -> None:
    settings = {
        "PERTURB_PUBLISH_DELAY_BLOCKS": "20",
        "PERTURB_ANCHOR_INTERVAL_BLOCKS": "25",
        "PERTURB_PUBLISH_URL": "https://example.com/log",
    }
    live(tmp_path, chain, day, **settings)
    live(tmp_path, chain, day, **settings)
    with open_bundle(tmp_path / "bundle") as bundle:
        authority = bundle.verify_signature()
        anchors = bundle.anchors
        assert len(anchors) > 20
        assert anchors[0].previous == NO_PREVIOUS
        check_chain(anchors)
        check_pinned(anchors, bundle.size, bundle.tree.subtree)
        assert anchors[-1] == on_chain(chain)
        assert all(later.block - early.block >= 25 for early, later in pairwise(anchors))
        assert authority.hotkey == hotkey("alice").ss58_address
    found = read_commitment(asyncio.run(chain.commitment(authority.hotkey)))
    assert found is not None
    assert found[1] == "https://example.com/log"


def test_a_spent_budget_costs_an_anchor_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = make_chain(tmp_path / "poor.sqlite", replace(RULES, commitment_bytes_per_epoch=250))
    settings = {"PERTURB_PUBLISH_DELAY_BLOCKS": "0", "PERTURB_ANCHOR_INTERVAL_BLOCKS": "1"}
    live(tmp_path, chain, lambda publication: day(publication, steps=12, blocks=2), **settings)
    assert "Not anchored: SpaceLimitExceeded" in caplog.text
    with open_bundle(tmp_path / "bundle") as bundle:
        assert bundle.size == 37
        assert 2 <= len(bundle.anchors) < 12
        check_chain(bundle.anchors)


def test_an_anchor_in_doubt_is_read_from_the_chain(
    tmp_path: Path, chain: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took effect, but our deadline passed first: the next anchor follows it all the same."""
    submit = chain.set_commitment

    async def silent(*args: Any) -> int:
        await submit(*args)
        raise ChainTimeout("no answer within 30 s")

    settings = {"PERTURB_PUBLISH_DELAY_BLOCKS": "0", "PERTURB_ANCHOR_INTERVAL_BLOCKS": "1"}
    monkeypatch.setattr(chain, "set_commitment", silent)
    live(tmp_path, chain, lambda publication: day(publication, steps=1), **settings)
    doubtful = on_chain(chain)
    monkeypatch.setattr(chain, "set_commitment", submit)
    live(tmp_path, chain, lambda publication: day(publication, steps=2), **settings)
    with open_bundle(tmp_path / "bundle") as bundle:
        assert bundle.anchors[0].payload() == doubtful.payload()
        check_chain(bundle.anchors)
        assert len(bundle.anchors) == 3


NOW = {"PERTURB_PUBLISH_DELAY_BLOCKS": "0", "PERTURB_ANCHOR_INTERVAL_BLOCKS": "1"}


def test_a_restored_backup_refuses_to_start(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    with pytest.raises(LedgerForked, match=r"the chain pins 13 leaves .*; this ledger has 7 and"):
        live(tmp_path, chain, day, **NOW)
    with pytest.raises(LedgerForked, match="the chain pins 13 leaves"):
        live(tmp_path, chain, day, PERTURB_PUBLISH_TO=str(tmp_path / "elsewhere"), **NOW)


def test_a_log_begun_anew_refuses_to_start(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(LedgerForked, match="this ledger has 1 and does not begin with them"):
        live(tmp_path, chain, day, **NOW)


def test_a_place_of_another_history_ends_the_validator(tmp_path: Path, chain: LocalChain) -> None:
    other = make_chain(tmp_path / "other.sqlite", RULES)
    live(tmp_path / "other", other, lambda publication: day(publication, steps=3), **NOW)

    async def work(publication: Publication) -> None:
        await write(publication, 30)
        shutil.copytree(tmp_path / "other" / "bundle", tmp_path / "bundle")
        await publication.run()

    with pytest.raises(LedgerForked, match="no key of this log signed"):  # begun anew: another key
        live(tmp_path, chain, work, **NOW)


def test_a_place_that_cannot_be_written_is_tried_again(
    tmp_path: Path, chain: LocalChain, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(publication: Publication) -> None:
        (tmp_path / "bundle").write_text("in the way")
        await write(publication)
        await publication.run()
        assert "Not published: " in caplog.text
        (tmp_path / "bundle").unlink()
        await publication.run()
        assert publication.size == 2

    live(tmp_path, chain, work, **NOW)


def test_deltas_go_in_time_here_and_where_they_are_published(tmp_path: Path) -> None:
    journal, target, log = Journal(tmp_path / "state"), Folder(tmp_path / "bundle"), started()
    digests = [journal.deltas.put(MAGIC + bytes([number])) for number in (0, 1, 0, 2)]
    for digest in digests:
        log.add(log.challenge(1))
        log.add(log.receipt(1, delta=digest))
        target.place(blob_path(digest), journal.deltas.get(digest), journal.deltas.path(digest))
    journal.append(*[entry.leaf for entry in log.entries])
    kept = {}
    for keep in (0, 4, 2, 1):
        forget_old_deltas(journal, keep, target)
        kept[keep] = {path.name for path in (tmp_path / "state" / "deltas").glob("*/*")}
        assert kept[keep] == {path.name for path in (tmp_path / "bundle" / "blobs").glob("*/*")}
    journal.close()
    everything = set(digests)
    assert kept == {0: everything, 4: everything, 2: {digests[0], digests[3]}, 1: {digests[3]}}


def test_orphans_of_a_crash_are_swept_on_opening(tmp_path: Path) -> None:
    journal, log = Journal(tmp_path / "state"), started()
    known = journal.deltas.put(b"known")
    log.add(log.challenge(1))
    log.add(log.receipt(1, delta=known))
    journal.append(*[entry.leaf for entry in log.entries])
    journal.deltas.put(b"orphan")
    journal.blobs.put(b"orphan")
    (tmp_path / "state" / "deltas" / known[:2] / ".half.partial").write_bytes(b"ha")
    journal.close()
    Journal(tmp_path / "state").close()
    left = [path.name for folder in ("deltas", "blobs") for path in (tmp_path / "state" / folder).glob("*/*")]
    assert left == [known]


# The key and its owner


def test_the_log_belongs_to_its_hotkey(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, day, **NOW)
    with pytest.raises(LedgerForked, match="belongs to"):
        live(tmp_path, chain, day, owner="bob", **NOW)


def test_a_lost_or_foreign_key_is_named(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, day, **NOW)
    path = tmp_path / "state" / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(NoteError, match="is missing: nobody can sign"):
        live(tmp_path, chain, day, **NOW)
    path.write_bytes(kept[:-8])
    with pytest.raises(NoteError, match=r"log\.key: a key has the form"):
        live(tmp_path, chain, day, **NOW)


def test_a_key_is_rotated_and_the_place_goes_on(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
    for lost in (False, True):
        journal = Journal(tmp_path / "state")
        before = read_owner(journal).key
        if lost:
            (tmp_path / "state" / KEY_FILE).unlink()
            with pytest.raises(NoteError, match="only the hotkey"):
                rotate_key(journal, tmp_path / "state", hotkey("bob"))
        key = rotate_key(journal, tmp_path / "state", hotkey("alice"))
        assert read_owner(journal).key == key.verifier() != before
        journal.close()
        live(tmp_path, chain, lambda publication: day(publication, steps=2), **NOW)
        with open_bundle(tmp_path / "bundle") as bundle:
            assert bundle.verify_signature().key == key.verifier()


def test_a_crash_between_key_and_leaf_is_mended(tmp_path: Path, chain: LocalChain) -> None:
    live(tmp_path, chain, lambda publication: day(publication, steps=1), **NOW)
    state = tmp_path / "state"
    before = (state / KEY_FILE).read_bytes()
    journal = Journal(state)
    key = rotate_key(journal, state, hotkey("alice"))
    journal.close()
    (state / KEY_FILE).rename(state / "log.next")  # as if the process had ended before the last step
    (state / KEY_FILE).write_bytes(before)
    live(tmp_path, chain, lambda publication: day(publication, steps=1), **NOW)
    assert (state / KEY_FILE).read_text().strip() == key.encode()


def test_anchors_of_another_form_are_not_ours() -> None:
    from perturbnet.chain import Commitment

    assert read_commitment(None) is None
    for fields in ((), (b"x" * 80,), (b"short",), (Anchor(1, 2, bytes(32), bytes(32)).payload()[:-1],)):
        assert read_commitment(Commitment(5, fields)) is None
    payload = Anchor(1, 2, bytes(32), bytes(32)).payload()
    assert len(payload) == 80
    for url, read in ((b"https://a/b", "https://a/b"), (b"ftp://a", ""), (b"http://a b", ""), (b"\xff", "")):
        assert read_commitment(Commitment(5, (payload, url))) == (Anchor(1, 2, bytes(32), bytes(32), 5), read)
    assert parse_anchors(b"[]") == []


def test_logging_is_quiet(caplog: pytest.LogCaptureFixture, tmp_path: Path, chain: LocalChain) -> None:
    caplog.set_level(logging.WARNING)
    live(tmp_path, chain, day, **NOW)
    assert not caplog.records
