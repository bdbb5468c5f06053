"""Reading back: the ledger's images or an error; and what a hostile data set may try."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import perturbnet
from perturbnet.adversarial_dataset.layout import CARD, CHECKPOINT, CROISSANT, MANIFEST, NOTE, Split
from perturbnet.adversarial_dataset.loading import load_adversarial
from perturbnet.adversarial_dataset.manifest import parse_manifest, read_manifest
from perturbnet.errors import DatasetError, DigestMismatch, NoteError, OutputError, PerturbError
from perturbnet.wire.images import pixel_digest
from tests.support.adversarial_dataset.logs import Published, refit, rewrite_manifest, rewrite_rows, tree
from tests.support.auditing.honest import LOG_KEY
from tests.support.auditing.published import OTHER_KEY
from tests.support.fakes import MemorySource

KEY = LOG_KEY.verifier().encode()


def load_all(published: Published, folder: Path, **options: Any) -> int:
    """Every example of every split."""
    options = {"source": published.honest.source, **options}
    return sum(1 for split in Split for _ in load_adversarial(folder, split=split.value, **options))


class TestExamples:
    def test_five_lines_give_the_ledgers_images(self, published: Published, exported: Path) -> None:
        examples = perturbnet.load_adversarial(exported, source=published.honest.source, key=KEY)
        assert len(examples) > 4
        for (clean, adversarial, label), row in zip(examples, examples.rows(), strict=True):
            assert pixel_digest(clean) == row["clean_pixels"]
            assert pixel_digest(adversarial) == row["adversarial_pixels"]
            assert label == row["label"] == published.honest.engine.classify([clean])[0].index
            assert (
                published.honest.engine.classify([adversarial])[0].index == row["adversarial_label"] != label
            )

    def test_it_is_a_sequence(self, published: Published, exported: Path) -> None:
        examples = load_adversarial(exported, source=published.honest.source)
        assert (examples[-1].adversarial == examples[len(examples) - 1].adversarial).all()
        assert [one.label for one in examples[1:3]] == [examples[1].label, examples[2].label]
        with pytest.raises(IndexError):
            examples[len(examples)]

    def test_pictures_need_no_source(self, published: Published, with_pictures: Path) -> None:
        assert load_all(published, with_pictures, source=None) == read_manifest(with_pictures).rows()

    def test_nothing_but_the_manifest_is_read_before_it_is_asked_for(
        self, published: Published, exported: Path
    ) -> None:
        before = len(published.honest.source.reads)
        load_adversarial(exported, source=published.honest.source)
        assert len(published.honest.source.reads) == before

    def test_perturbations_without_a_source_are_refused_with_a_hint(self, exported: Path) -> None:
        with pytest.raises(OutputError, match="perturbations of tests/memory, no pictures") as caught:
            load_adversarial(exported)
        assert "source=" in caught.value.hint

    def test_no_such_split(self, published: Published, exported: Path) -> None:
        with pytest.raises(OutputError, match="expected train, validation, test"):
            load_all_of(published, exported, "all")

    def test_another_source_is_refused(self, exported: Path) -> None:
        with pytest.raises(DatasetError, match="expected repository 'tests/memory'"):
            load_adversarial(exported, source=MemorySource(12, name="other"))[0]

    def test_a_source_with_other_pictures_is_refused(self, exported: Path) -> None:
        disguised = MemorySource(12, name="other")
        disguised.identity = MemorySource(12).identity
        disguised.read = lambda row: MemorySource(12, name="else").read(row)  # type: ignore[method-assign]
        with pytest.raises(DigestMismatch, match="the clean image"):
            load_adversarial(exported, source=disguised)[0]


def load_all_of(published: Published, folder: Path, split: str) -> object:
    return load_adversarial(folder, source=published.honest.source, split=split)


class TestSignature:
    def test_another_key_is_refused(self, published: Published, exported: Path) -> None:
        with pytest.raises(NoteError, match="no known key signed"):
            load_all(published, exported, key=OTHER_KEY.verifier().encode())

    def test_no_signature_is_refused_when_one_is_asked_for(
        self, published: Published, exported: Path
    ) -> None:
        (exported / NOTE).unlink()
        with pytest.raises(NoteError, match="nobody signed"):
            load_all(published, exported, key=KEY)

    def test_a_tampered_manifest_is_refused(self, published: Published, exported: Path) -> None:
        rewrite_manifest(exported, left_out={})
        with pytest.raises(NoteError, match="expected"):
            load_all(published, exported, key=KEY)

    def test_the_signature_of_another_version_is_refused(
        self, published: Published, exported: Path, tmp_path: Path
    ) -> None:
        early = published.grow(tmp_path / "early", len(published.honest.entries) // 2)
        published.export(tmp_path / "out", bundle=early, key=LOG_KEY)
        (exported / NOTE).write_bytes((tmp_path / "out" / NOTE).read_bytes())
        with pytest.raises(NoteError):
            load_all(published, exported, key=KEY)

    @pytest.mark.parametrize("data", [b"", b"x" * (1 << 19), b"text\n\n", b"\xff\n\n- x\n"])
    def test_a_malformed_note_is_refused(self, published: Published, exported: Path, data: bytes) -> None:
        (exported / NOTE).write_bytes(data)
        with pytest.raises(NoteError):
            load_all(published, exported, key=KEY)


class TestFiles:
    def test_no_data_set(self, tmp_path: Path) -> None:
        for place in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(DatasetError, match=r"holds no manifest\.json"):
                load_adversarial(place)

    @pytest.mark.parametrize("name", [CARD, CROISSANT, CHECKPOINT])
    def test_a_changed_or_missing_file_is_named(
        self, published: Published, exported: Path, name: str
    ) -> None:
        (exported / name).write_bytes((exported / name).read_bytes() + b" ")
        with pytest.raises(DigestMismatch, match=name):
            load_all(published, exported)
        (exported / name).unlink()
        with pytest.raises(DatasetError, match=name):
            load_all(published, exported)

    def test_a_shard_with_another_digest_is_refused(self, published: Published, exported: Path) -> None:
        path = next(exported.rglob("*.parquet"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(DigestMismatch, match=path.name):
            load_all(published, exported)

    def test_a_missing_shard_is_named(self, published: Published, exported: Path) -> None:
        path = next(exported.rglob("*.parquet"))
        path.unlink()
        with pytest.raises(DatasetError, match=path.name):
            load_all(published, exported)

    @pytest.mark.parametrize("keep", [0, 4, 100, -9])
    def test_a_damaged_shard_under_a_manifest_that_fits_is_an_error(
        self, published: Published, exported: Path, keep: int
    ) -> None:
        path = exported / read_manifest(exported).shards[0].path
        path.write_bytes(path.read_bytes()[:keep])
        refit(exported)
        with pytest.raises(DatasetError, match=path.name):
            load_all(published, exported)

    def test_bit_flips_under_a_manifest_that_fits_never_give_other_images(
        self, published: Published, exported: Path
    ) -> None:
        path = exported / read_manifest(exported).shards[0].path
        whole = path.read_bytes()
        wanted = [pixel_digest(one.adversarial) for one in published.examples(exported)]
        random = np.random.default_rng(5)
        refused = 0
        for _ in range(60):
            data = bytearray(whole)
            data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
            path.write_bytes(data)
            refit(exported)
            try:
                found = [pixel_digest(one.adversarial) for one in published.examples(exported)]
            except PerturbError:
                refused += 1
            else:
                assert found == wanted  # a bit in a column that no image depends on
        assert refused > 5

    def test_other_columns_are_refused(self, published: Published, exported: Path) -> None:
        path = exported / read_manifest(exported).shards[0].path
        pq.write_table(pq.read_table(path).drop_columns(["score"]), path)
        refit(exported)
        with pytest.raises(DatasetError, match="has the columns"):
            load_all(published, exported)

    def test_another_number_of_rows_is_refused(self, published: Published, exported: Path) -> None:
        refit(exported, rows=1000)
        with pytest.raises(DatasetError, match="expected 1000 rows"):
            load_all(published, exported)

    def test_a_row_group_beyond_the_cap_is_not_read(
        self, published: Published, exported: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("perturbnet.adversarial_dataset.reading.MAX_GROUP_BYTES", 1000)
        with pytest.raises(DatasetError, match="at most 1000 bytes"):
            load_all(published, exported)


def set_all(**values: object) -> Callable[[list[dict[str, Any]]], object]:
    return lambda rows: [row.update(values) for row in rows]


class TestRows:
    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"positions": [5], "changes": [1]}, "the adversarial image: expected"),
            ({"positions": [5, 6], "changes": [1]}, "do not belong to one image"),
            ({"positions": [-1], "changes": [1]}, "not ascending"),
            ({"positions": [10**9], "changes": [1]}, "not ascending"),
            ({"positions": [7, 7], "changes": [1, 1]}, "not ascending"),
            ({"positions": [3, 2**31 - 1, -(2**31), 9], "changes": [1, 1, 1, 1]}, "not ascending"),
            ({"positions": [0] * 20_000, "changes": [0] * 20_000}, "do not belong to one image"),
            ({"height": 10}, "a perturbation for"),
            ({"adversarial_pixels": "0" * 64}, "the adversarial image: expected 0000"),
            ({"clean_pixels": "0" * 64}, "the clean image: expected 0000"),
            ({"row": 10**6}, "does not exist"),
            ({"row": -1}, "does not exist"),
            ({"freshness": "{"}, "a freshness that is none"),
            ({"freshness": "[1]"}, "no object"),
            ({"freshness": '{"flip":1}'}, "not a freshness"),
            ({"freshness": '{"seed":1e400}'}, "a freshness that is none"),
            ({"source_repository": "tests/other"}, "expected repository 'tests/other'"),
            ({"source_revision": "2"}, "expected revision '2'"),
            ({"miner": None}, "a row without miner"),
            ({"positions": None}, "a row without positions"),
        ],
    )
    def test_hostile_rows_are_refused(
        self, published: Published, exported: Path, values: dict[str, object], said: str
    ) -> None:
        rewrite_rows(exported, set_all(**values))
        with pytest.raises(PerturbError, match=said):
            load_all(published, exported)

    @pytest.mark.parametrize("cell", [{"bytes": None, "path": None}, {"bytes": b"GIF89a", "path": "../x"}])
    def test_a_picture_that_is_none_is_refused(
        self, published: Published, with_pictures: Path, cell: dict[str, object]
    ) -> None:
        rewrite_rows(with_pictures, set_all(adversarial=cell))
        with pytest.raises(DatasetError, match="adversarial image is"):
            load_all(published, with_pictures)

    def test_pictures_that_were_swapped_are_refused(self, published: Published, with_pictures: Path) -> None:
        def swap(rows: list[dict[str, Any]]) -> None:
            for row in rows:
                row["clean"] = row["adversarial"]

        rewrite_rows(with_pictures, swap)
        with pytest.raises(DigestMismatch, match="the clean image"):
            load_all(published, with_pictures)


class TestManifests:
    @pytest.mark.parametrize(
        "path",
        [
            "../../etc/passwd",
            "/etc/passwd",
            "data/../data/train-000000000000-000000000032.parquet",
            "data/train-0-64.parquet",
            "data/train-000000000000-000000000032.parquet\n",
            "data/test-000000000000-000000000032.parquet",
            "",
        ],
    )
    def test_a_name_of_another_form_is_refused(self, exported: Path, path: str) -> None:
        value = json.loads((exported / MANIFEST).read_text())
        value["shards"][0]["path"] = path
        with pytest.raises(DatasetError, match="a shard is named"):
            parse_manifest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"version": 2}, "version 2, this program reads 1"),
            ({"mode": "partial"}, "Invalid enum value"),
            ({"leaves": "9"}, "Expected `int`"),
            ({"extra": 1}, "unknown field"),
            ({"files": {"../x": "0" * 64}}, "names the files"),
            ({"stop": 3}, "out of order"),
            ({"begin": 70}, "out of order"),
        ],
    )
    def test_a_manifest_of_another_form_is_refused(
        self, exported: Path, change: dict[str, object], said: str
    ) -> None:
        value = {**json.loads((exported / MANIFEST).read_text()), **change}
        with pytest.raises(DatasetError, match=said):
            parse_manifest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    @pytest.mark.parametrize(
        "data", [b"", b"[]", b"{}", b"1", b"null", b"{" * 10**5, b'{"version": 1}', b"\xff"]
    )
    def test_what_is_no_manifest_is_refused(self, data: bytes) -> None:
        with pytest.raises(DatasetError):
            parse_manifest(data)

    def test_a_shard_there_twice_is_refused(self, exported: Path) -> None:
        shards = read_manifest(exported).shards
        rewrite_manifest(exported, shards=[*shards, shards[-1]])
        with pytest.raises(DatasetError, match="out of order"):
            read_manifest(exported)

    def test_a_manifest_beyond_the_cap_is_not_read(self, exported: Path) -> None:
        os.truncate(exported / MANIFEST, 1 << 27)
        with pytest.raises(DatasetError, match="bytes"):
            read_manifest(exported)

    def test_nothing_on_disk_changes(self, published: Published, exported: Path) -> None:
        before = tree(exported)
        load_all(published, exported)
        assert tree(exported) == before


def test_arrow_of_the_rows_is_what_is_declared(exported: Path) -> None:
    table = pq.read_table(exported / read_manifest(exported).shards[0].path)
    assert table.schema.field("positions").type == pa.list_(pa.int32())
    assert table.schema.field("changes").type == pa.list_(pa.int8())
