"""Writing: what becomes a row, the same bytes in parts, versions that touch nothing, folders in use."""

from __future__ import annotations

import errno
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from perturbnet.adversarial_dataset.examples import GONE, REPEATED
from perturbnet.adversarial_dataset.exporting import Asked, begin, finish, write_range, write_ranges
from perturbnet.adversarial_dataset.layout import MANIFEST, NOTE, WORK_FOLDER, Mode, split_of
from perturbnet.adversarial_dataset.manifest import read_manifest
from perturbnet.adversarial_dataset.plan import PLAN
from perturbnet.adversarial_dataset.shards import RangeWriter
from perturbnet.auditing.run import Means
from perturbnet.errors import BundleTampered, DigestMismatch, NoteError, OutputError
from perturbnet.ledger.leaves import ChallengeLeaf, ReceiptLeaf
from perturbnet.transparency.bundle import blob_path, open_bundle
from tests.support.adversarial_dataset.logs import Published, tree
from tests.support.auditing.honest import LOG_KEY, tampered
from tests.support.auditing.published import OTHER_KEY, sign_head


def accepted(published: Published) -> dict[int, ReceiptLeaf]:
    leaves = published.honest.leaves()
    found = {place: leaves[place] for place in published.honest.receipts()}
    return {place: leaf for place, leaf in found.items() if isinstance(leaf, ReceiptLeaf)}


class TestRows:
    def test_every_accepted_answer_is_a_row_once(self, published: Published, exported: Path) -> None:
        rows = published.rows(exported)
        pixels = Counter(row["adversarial_pixels"] for row in rows)
        assert set(pixels) == {leaf.adversarial_pixels for leaf in accepted(published).values()}
        assert set(pixels.values()) == {1}
        assert read_manifest(exported).left_out.get(REPEATED, 0) == len(accepted(published)) - len(rows) > 0

    def test_columns_are_the_receipts_own_numbers(self, published: Published, exported: Path) -> None:
        receipts, leaves = accepted(published), published.honest.leaves()
        for row in published.rows(exported):
            leaf = receipts[row["leaf"]]
            challenge = leaves[leaf.challenge]
            assert isinstance(challenge, ChallengeLeaf)
            assert (row["miner"], row["linf_u8"], row["sum_sq"]) == (leaf.hotkey, leaf.linf_u8, leaf.sum_sq)
            assert (row["label"], row["adversarial_label"]) == (challenge.true_index, leaf.index_after)
            assert (row["row"], row["epoch"], row["task_id"]) == (
                challenge.row,
                challenge.epoch,
                challenge.task_id,
            )
            assert row["linf"] == leaf.linf_u8 / 255
            assert row["rmse"] == math.sqrt(leaf.sum_sq / (row["height"] * row["width"] * 3)) / 255
            assert (row["ssim"], row["psnr_db"]) == (leaf.ssim_ppb / 10**9, leaf.psnr_micro_db / 10**6)
            assert row["margin"] is None
            assert len(row["positions"]) == leaf.changed

    def test_margins_come_from_the_model(self, published: Published, tmp_path: Path) -> None:
        published.export(tmp_path / "out", margins=True)
        assert all(row["margin"] >= 0 for row in published.rows(tmp_path / "out"))

    def test_no_image_is_in_two_splits(self, published: Published, exported: Path) -> None:
        dataset = {"repository": "tests/memory", "split": "train"}
        for shard in read_manifest(exported).shards:
            for row in published.opened(exported, shard.split).rows():
                assert split_of(dataset, row["row"]) is shard.split

    def test_an_answer_that_is_not_published_any_more_is_counted(
        self, published: Published, tmp_path: Path
    ) -> None:
        bundle = published.grow(tmp_path / "bundle", len(published.honest.entries))
        lost = next(iter(accepted(published).values())).delta
        (bundle / blob_path(lost)).unlink()
        manifest = published.export(tmp_path / "out", bundle=bundle)
        assert manifest.left_out[GONE] >= 1


class TestParts:
    @pytest.mark.parametrize("parts", [1, 2, 5])
    def test_parts_give_the_same_bytes(
        self, published: Published, exported: Path, tmp_path: Path, parts: int
    ) -> None:
        out = tmp_path / "parts"
        with open_bundle(published.folder) as bundle:
            plan = begin(bundle, out, Asked(shard_leaves=32))
            for number in reversed(range(1, parts + 1)):
                write_ranges(bundle, out, plan, Means(), part=(number, parts))
        finish(out, plan, LOG_KEY)
        assert tree(out) == tree(exported)

    def test_a_part_that_is_missing_is_named(self, published: Published, tmp_path: Path) -> None:
        with open_bundle(published.folder) as bundle:
            plan = begin(bundle, tmp_path / "out", Asked(shard_leaves=32))
            write_range(bundle, tmp_path / "out", plan, plan.ranges[0], Means())
        with pytest.raises(OutputError, match=f"leaves from {plan.ranges[1].start} on were not exported"):
            finish(tmp_path / "out", plan, None)
        assert not (tmp_path / "out" / MANIFEST).exists()

    def test_an_export_that_died_goes_on_and_redoes_nothing(
        self, published: Published, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Killed(BaseException):
            pass

        done: list[int] = []
        real = RangeWriter.finish

        def dying(writer: RangeWriter) -> object:
            if len(done) == 1:
                done.append(-1)
                raise Killed
            done.append(0)
            return real(writer)

        monkeypatch.setattr(RangeWriter, "finish", dying)
        with pytest.raises(Killed):
            published.export(tmp_path / "out", key=LOG_KEY, shard_leaves=32)
        assert not list((tmp_path / "out").rglob("*.partial"))
        published.export(tmp_path / "out", key=LOG_KEY)
        assert tree(tmp_path / "out") == tree(exported)
        assert done == [0, -1, *[0] * (done.count(0) - 1)]
        assert done.count(0) > 2

    def test_a_plan_is_of_one_log(self, published: Published, tmp_path: Path) -> None:
        with open_bundle(published.folder) as bundle:
            begin(bundle, tmp_path / "out", Asked())
        rewritten = tampered(published.honest, published.honest.receipts()[0], score_ppb=5)
        other = published.grow(tmp_path / "other", rewritten)
        with open_bundle(other) as bundle, pytest.raises(BundleTampered, match="expected the root"):
            begin(bundle, tmp_path / "out", Asked())


class TestVersions:
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
    def test_a_grown_log_adds_shards_and_rewrites_none(
        self, published: Published, exported: Path, tmp_path: Path, share: float
    ) -> None:
        size = int(len(published.honest.entries) * share)
        out, early = tmp_path / "out", published.grow(tmp_path / "early", size)
        first = published.export(out, bundle=early, shard_leaves=32)
        before = {name: data for name, data in tree(out).items() if name.endswith(".parquet")}
        second = published.export(out)
        after = tree(out)
        assert {name: after[name] for name in before} == before
        assert (first.leaves, second.leaves) == (size, len(published.honest.entries))
        assert second.previous == first.digest()
        assert second.counts == read_manifest(exported).counts
        whole = [row["leaf"] for row in published.rows(exported)]
        assert [row["leaf"] for row in published.rows(out)] == whole

    def test_without_a_new_leaf_nothing_changes(self, published: Published, exported: Path) -> None:
        before = tree(exported)
        published.export(exported)
        assert tree(exported) == before

    def test_a_key_can_sign_later(self, published: Published, exported: Path, tmp_path: Path) -> None:
        published.export(tmp_path / "out", shard_leaves=32)
        assert not (tmp_path / "out" / NOTE).exists()
        published.export(tmp_path / "out", key=LOG_KEY)
        assert tree(tmp_path / "out") == tree(exported)

    def test_a_version_without_the_key_drops_the_old_signature(
        self, published: Published, tmp_path: Path
    ) -> None:
        early = published.grow(tmp_path / "early", len(published.honest.entries) // 2)
        published.export(tmp_path / "out", bundle=early, key=LOG_KEY)
        published.export(tmp_path / "out")
        assert not (tmp_path / "out" / NOTE).exists()
        assert "not signed" in (tmp_path / "out" / "README.md").read_text()

    def test_a_log_that_was_rewritten_meanwhile_is_refused(
        self, published: Published, tmp_path: Path
    ) -> None:
        out, size = tmp_path / "out", len(published.honest.entries) // 2
        published.export(out, bundle=published.grow(tmp_path / "early", size))
        rewritten = tampered(published.honest, published.honest.receipts()[0], score_ppb=5)
        before = tree(out)
        with pytest.raises(BundleTampered, match="expected the root"):
            published.export(out, bundle=published.grow(tmp_path / "other", rewritten))
        with pytest.raises(OutputError, match=f"{size} leaves of the log, the log at hand has {size - 9}"):
            published.export(out, bundle=published.grow(tmp_path / "shorter", size - 9))
        assert tree(out) == before

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"mode": Mode.FULL}, "mode is delta"),
            ({"begin": 5}, "begin is 0"),
            ({"shard_leaves": 16}, "shard_leaves is 32"),
            ({"margins": True}, "margins is False"),
        ],
    )
    def test_a_version_cannot_be_of_another_kind(
        self, published: Published, exported: Path, asked: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(OutputError, match=said):
            published.export(exported, **asked)


class TestFolders:
    def test_a_folder_that_holds_something_else_is_left_alone(
        self, published: Published, tmp_path: Path
    ) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match="holds something else"):
            published.export(tmp_path)
        assert tree(tmp_path) == {"thesis.tex": b"years of work"}

    def test_a_file_is_no_folder(self, published: Published, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(OutputError):
            published.export(tmp_path / "out")

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version":1}'])
    def test_a_damaged_plan_or_manifest_is_refused(
        self, published: Published, tmp_path: Path, text: str
    ) -> None:
        for name in (PLAN, MANIFEST):
            out = tmp_path / name.replace("/", "-")
            (out / WORK_FOLDER).mkdir(parents=True)
            (out / name).write_text(text)
            with pytest.raises(OutputError, match=r"plan|manifest"):
                published.export(out)

    def test_an_old_shard_that_is_gone_is_named(self, published: Published, tmp_path: Path) -> None:
        out = tmp_path / "out"
        published.export(out, bundle=published.grow(tmp_path / "early", 40))
        lost = next(out.rglob("*.parquet"))
        lost.unlink()
        with pytest.raises(OutputError, match=lost.name):
            published.export(out)


class TestLogs:
    def test_a_log_that_another_key_signed_is_refused(self, published: Published, tmp_path: Path) -> None:
        bundle = published.grow(tmp_path / "bundle", len(published.honest.entries))
        with open_bundle(bundle) as opened:
            sign_head(bundle, opened.size, opened.checkpoint.root, OTHER_KEY)
        with pytest.raises(NoteError):
            published.export(tmp_path / "out", bundle=bundle)
        assert not (tmp_path / "out").exists()

    def test_a_flipped_bit_in_a_leaf_is_refused(self, published: Published, tmp_path: Path) -> None:
        bundle = published.grow(tmp_path / "bundle", len(published.honest.entries))
        tile = next(path for path in (bundle / "tile" / "entries").rglob("*") if path.is_file())
        data = bytearray(tile.read_bytes())
        data[len(data) // 2] ^= 1
        tile.write_bytes(data)
        with pytest.raises(BundleTampered):
            published.export(tmp_path / "out", bundle=bundle)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"changed": 1}, "changed is 1, its delta has"),
            ({"sum_sq": 1}, "sum_sq is 1, its delta has"),
            ({"linf_u8": 90}, "linf_u8 is 90, its delta has"),
            ({"linf_u8": 255, "sum_sq": -4}, "sum_sq is -4"),
        ],
    )
    def test_a_receipt_that_lies_about_its_delta_ends_the_export(
        self, published: Published, tmp_path: Path, values: dict[str, int], said: str
    ) -> None:
        place = published.honest.receipts()[0]
        lying = published.grow(tmp_path / "bundle", tampered(published.honest, place, **values))
        with pytest.raises(BundleTampered, match=said):
            published.export(tmp_path / "out", bundle=lying)
        assert not (tmp_path / "out" / MANIFEST).exists()

    def test_rebuilding_notices_pixels_that_are_not_the_receipts(
        self, published: Published, tmp_path: Path
    ) -> None:
        place = published.honest.receipts()[0]
        lying = tampered(published.honest, place, adversarial_pixels="0" * 64)
        bundle = published.grow(tmp_path / "bundle", lying)
        published.export(tmp_path / "blind", bundle=bundle)
        with pytest.raises(DigestMismatch, match="the adversarial image"):
            published.export(tmp_path / "out", bundle=bundle, rebuild=True)

    def test_the_model_notices_a_class_that_is_not_the_answers(
        self, published: Published, tmp_path: Path
    ) -> None:
        place = published.honest.receipts()[0]
        lying = tampered(published.honest, place, index_after=1, label_after="unicorn")
        with pytest.raises(DigestMismatch, match=r"label_after: expected 1 unicorn"):
            published.export(
                tmp_path / "out", bundle=published.grow(tmp_path / "bundle", lying), margins=True
            )

    def test_a_picture_that_another_round_brought_is_no_row(
        self, published: Published, tmp_path: Path
    ) -> None:
        first, *_, last = published.honest.receipts()
        same = published.honest.entries[first].leaf
        assert isinstance(same, ReceiptLeaf)
        leaves = tampered(published.honest, last, adversarial_pixels=same.adversarial_pixels)
        published.export(
            tmp_path / "out", bundle=published.grow(tmp_path / "bundle", leaves), shard_leaves=16
        )
        found = [row["leaf"] for row in published.rows(tmp_path / "out")]
        assert first in found
        assert last not in found


class TestPictures:
    def test_a_source_whose_licence_is_not_known_is_refused_by_name(
        self, published: Published, tmp_path: Path
    ) -> None:
        with pytest.raises(OutputError, match="pictures of 'tests/memory' may not be handed on"):
            published.export(tmp_path / "out", mode=Mode.FULL)

    def test_imagenet_is_refused_by_name(self, published: Published, tmp_path: Path) -> None:
        place = next(at for at, leaf in enumerate(published.honest.leaves()) if leaf.kind == "config")
        config = published.honest.entries[place].leaf
        dataset = {**structs.asdict(config)["dataset"], "repository": "clane9/imagenet-100"}
        leaves = tampered(published.honest, place, dataset=dataset)
        with pytest.raises(OutputError, match="'clane9/imagenet-100' may not be handed on: ImageNet"):
            published.export(
                tmp_path / "out", bundle=published.grow(tmp_path / "bundle", leaves), mode=Mode.FULL
            )

    def test_both_modes_hold_the_same_pictures(
        self, published: Published, exported: Path, with_pictures: Path
    ) -> None:
        ours, theirs = published.examples(exported), published.examples(with_pictures)
        assert len(ours) == len(theirs) > 5
        for one, other in zip(ours, theirs, strict=True):
            assert (one.clean == other.clean).all()
            assert (one.adversarial == other.adversarial).all()
            assert one.label == other.label


def test_a_full_disk_is_said_and_what_was_finished_is_kept(
    published: Published, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = iter(range(10**6)), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: real(handle) if next(calls) != 9 else _fill(handle))
    with pytest.raises(OutputError, match="the disk is full"):
        published.export(tmp_path / "out", key=LOG_KEY, shard_leaves=32)
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not (tmp_path / "out" / MANIFEST).exists()
    published.export(tmp_path / "out", key=LOG_KEY)
    assert tree(tmp_path / "out") == tree(exported)


def _fill(handle: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", handle)
