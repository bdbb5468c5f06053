"""Publishing and anchoring: old enough, chained, within the budget, and never two histories."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perturbnet.chain import LocalChain
from perturbnet.errors import ChainTimeout, LedgerForked
from perturbnet.ledger.journal import Journal
from perturbnet.transparency.anchors import (
    NO_PREVIOUS,
    Anchor,
    check_chain,
    check_pinned,
    parse_anchors,
    read_commitment,
)
from perturbnet.transparency.bundle import blob_path, open_bundle
from perturbnet.transparency.places import Folder
from perturbnet.validator.publication import Horizon, Publication, forget_old_deltas
from perturbnet.wire.deltas import MAGIC
from tests.support.ledger.samples import started
from tests.support.transparency.logs import hotkey
from tests.support.validator.publications import NOW, RULES, day, live, make_chain, on_chain, write

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


def test_anchors_of_another_form_are_not_ours() -> None:
    from perturbnet.rules.subnet import Commitment

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
