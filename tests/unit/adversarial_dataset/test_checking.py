"""Verifying: what is compared, what is said to be left open, and rows that the log does not give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perturbnet.adversarial_dataset.checking import DatasetCheck, check_dataset
from perturbnet.adversarial_dataset.layout import NOTE
from perturbnet.adversarial_dataset.manifest import read_manifest
from perturbnet.errors import BundleTampered, DatasetError, DigestMismatch, NoteError, OutputError
from perturbnet.transparency.bundle import blob_path, open_bundle
from tests.support.adversarial_dataset.logs import Published, rewrite_manifest, rewrite_rows
from tests.support.auditing.honest import LOG_KEY, tampered
from tests.support.auditing.published import OTHER_KEY


def check(published: Published, out: Path, *, bundle: Path | None = None, **options: Any) -> DatasetCheck:
    with open_bundle(bundle or published.folder) as opened:
        return check_dataset(out, bundle=opened, **options)


def test_an_honest_export_passes_with_nothing_left_open(published: Published, exported: Path) -> None:
    checked = check(published, exported, source=published.honest.source)
    assert checked.left_open == []
    rows = read_manifest(exported).rows()
    assert f"{rows} rows are what the log gives" in checked.done
    assert f"{2 * rows} images are equal to their digests" in checked.done
    assert checked.done[1] == f"signed by {LOG_KEY.verifier().encode()}"


def test_what_was_not_checked_is_said(exported: Path) -> None:
    said = "\n".join(check_dataset(exported).left_open)
    assert "--key" in said
    assert "--bundle" in said
    assert "--rebuild" in said


def test_a_set_with_pictures_is_checked_without_a_source(published: Published, with_pictures: Path) -> None:
    checked = check(published, with_pictures)
    assert checked.left_open == ["who exported it: nobody signed the manifest"]


def test_a_grown_log_still_checks_an_old_version(published: Published, tmp_path: Path) -> None:
    early = published.grow(tmp_path / "early", len(published.honest.entries) // 2)
    published.export(tmp_path / "out", bundle=early, key=LOG_KEY)
    assert check(published, tmp_path / "out", source=published.honest.source).left_open == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"score_ppb": 10**9}, "score_ppb is 1000000000, the log has"),
        ({"miner": "5F"}, "miner is '5F', the log has"),
        ({"licence": "do as you like"}, "licence is 'do as you like'"),
        ({"linf": 0.0}, "linf is 0.0, the log has"),
        ({"adversarial_label": 9999}, "adversarial_label is 9999"),
        ({"positions": [1], "changes": [1]}, "another perturbation than the log's"),
        ({"leaf": 0}, "no row for leaf"),
    ],
)
def test_rows_that_are_not_the_logs_are_found(
    published: Published, exported: Path, values: dict[str, object], said: str
) -> None:
    rewrite_rows(exported, lambda rows: rows[0].update(values))
    (exported / NOTE).unlink()
    with pytest.raises(DatasetError, match=said):
        check(published, exported)


def test_a_row_that_was_left_out_is_found(published: Published, exported: Path) -> None:
    rewrite_rows(exported, lambda rows: rows.pop())
    (exported / NOTE).unlink()
    with pytest.raises(DatasetError, match="no row for leaf"):
        check(published, exported)


def test_a_row_that_is_there_twice_is_found(published: Published, exported: Path) -> None:
    rewrite_rows(exported, lambda rows: rows.append(rows[-1]))
    (exported / NOTE).unlink()
    with pytest.raises(DatasetError, match=r"no row for leaf|the log does not give"):
        check(published, exported)


def test_a_row_in_another_split_is_found(published: Published, exported: Path, tmp_path: Path) -> None:
    manifest = read_manifest(exported)
    train = next(one for one in manifest.shards if one.split == "train")
    moved = train.path.replace("train", "test")
    others = [one for one in manifest.shards if one != train and one.path != moved]
    (exported / train.path).rename(exported / moved)
    value = type(train)(moved, type(train.split)("test"), *list(_facts(train)))
    rewrite_manifest(exported, shards=[value, *others])
    (exported / NOTE).unlink()
    with pytest.raises(DatasetError, match="is in split test, expected train"):
        check(published, exported)


def _facts(shard: Any) -> tuple[Any, ...]:
    return shard.start, shard.stop, shard.rows, shard.bytes, shard.sha256


def test_a_file_that_nobody_named_is_found(published: Published, exported: Path) -> None:
    (exported / "data" / "train-999999999999-999999999999.parquet").write_bytes(b"more rows")
    with pytest.raises(DatasetError, match=r"does not name: \['data/train-9"):
        check(published, exported)


def test_a_shard_with_other_bytes_is_found(published: Published, exported: Path) -> None:
    path = next(exported.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DigestMismatch, match=path.name):
        check(published, exported)


def test_another_log_and_a_rewritten_one_are_refused(
    published: Published, exported: Path, tmp_path: Path
) -> None:
    leaves = tampered(published.honest, published.honest.receipts()[0], score_ppb=5)
    with pytest.raises(BundleTampered, match="expected the root"):
        check(published, exported, bundle=published.grow(tmp_path / "rewritten", leaves))
    with pytest.raises(OutputError, match="the log at hand has 30"):
        check(published, exported, bundle=published.grow(tmp_path / "short", 30))
    rewrite_manifest(exported, origin="perturb/local/3/other")
    (exported / NOTE).unlink()
    with pytest.raises(OutputError, match="is of perturb/local/3/other"):
        check(published, exported)


def test_another_signature_is_refused(published: Published, tmp_path: Path) -> None:
    published.export(tmp_path / "out", key=OTHER_KEY)
    with pytest.raises(NoteError, match="no known key signed"):
        check(published, tmp_path / "out")
    with pytest.raises(NoteError, match="no known key signed"):
        check_dataset(tmp_path / "out", key=LOG_KEY.verifier())


class TestRetention:
    def bundle_without_one(self, published: Published, folder: Path) -> Path:
        bundle = published.grow(folder, len(published.honest.entries))
        deltas = {
            getattr(published.honest.entries[at].leaf, "delta", "") for at in published.honest.receipts()
        }
        (bundle / blob_path(min(deltas))).unlink()
        return bundle

    def test_an_answer_that_is_gone_since_then_is_no_fault(
        self, published: Published, exported: Path, tmp_path: Path
    ) -> None:
        bundle = self.bundle_without_one(published, tmp_path / "bundle")
        checked = check(published, exported, bundle=bundle)
        assert any("1 rows whose answer is not published any more" in line for line in checked.left_open)

    def test_one_that_was_gone_then_is_no_fault_either(self, published: Published, tmp_path: Path) -> None:
        bundle = self.bundle_without_one(published, tmp_path / "bundle")
        published.export(tmp_path / "out", bundle=bundle)
        check(published, tmp_path / "out")
