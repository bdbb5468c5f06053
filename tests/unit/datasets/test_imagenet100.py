"""The production data set, from a small snapshot laid out as huggingface_hub does; no network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perturbnet.classifier.labels import imagenet100_classes, imagenet_labels
from perturbnet.datasets import imagenet100, open_source
from perturbnet.datasets.imagenet100 import ShardFiles, open_snapshot, pinned_snapshot
from perturbnet.datasets.tables import write_table
from perturbnet.errors import ArtifactMissing, DatasetError, RowUnreadable

PINNED = pinned_snapshot()
REVISION = PINNED.revision
FOLDER = "datasets--clane9--imagenet-100"
NAMES = tuple(known.text for known in imagenet100_classes())
SMALL = ShardFiles(PINNED.repository, REVISION, "train", 7)


def stored(kind: str, mode: str, level: int) -> bytes:
    target = io.BytesIO()
    Image.new(mode, (20, 12), level).save(target, kind)
    return target.getvalue()


ROWS = (
    (stored("JPEG", "RGB", 10), 0),
    (stored("JPEG", "L", 200), 99),  # ImageNet has grey ones
    (stored("JPEG", "CMYK", 30), 5),
    (stored("PNG", "RGBA", 40), 7),
    (stored("JPEG", "RGB", 50)[:-40], 8),  # cut short
    (b"not an image", 9),
    (stored("PNG", "RGB", 60), 10),
)


def write_shards(
    hub: Path,
    rows: Sequence[tuple[bytes, int]] = ROWS,
    *,
    revision: str = REVISION,
    names: Sequence[str] = NAMES,
) -> Path:
    """Two shards under a hub cache; returns the folder of shards."""
    folder = hub / FOLDER / "snapshots" / revision / "data"
    folder.mkdir(parents=True)
    for number, part in enumerate((rows[:3], rows[3:])):
        with (folder / f"train-{number:05d}-of-00002.parquet").open("wb") as file:
            write_table(file, iter(part), names)
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    write_shards(tmp_path / "hub")
    return tmp_path / "hub"


def reopen(hub: Path, snapshot: ShardFiles = SMALL) -> imagenet100.SnapshotSource:
    return open_snapshot(snapshot, [hub])


def test_rows_are_decoded_by_pillow_to_rgb(hub: Path) -> None:
    source = reopen(hub)
    for row in (0, 1, 2, 3, 6):
        data, label = ROWS[row]
        image = source.read(row)
        np.testing.assert_array_equal(image.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert image.pixels.shape == (12, 20, 3)
        assert image.label == NAMES[label]


def test_labels_are_the_networks(hub: Path) -> None:
    image = reopen(hub).read(0)
    assert (image.label, image.label_index) == ("bonnet, poke bonnet", 452)
    assert imagenet_labels()[image.label_index] == image.label


@pytest.mark.parametrize("row", [4, 5])
def test_a_row_that_does_not_decode_is_named(hub: Path, row: int) -> None:
    with pytest.raises(RowUnreadable, match=f"row {row} is unreadable"):
        reopen(hub).read(row)


def test_a_bomb_is_unreadable(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = reopen(hub)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(RowUnreadable, match="DecompressionBomb"):
        source.read(0)


def test_identity(hub: Path) -> None:
    identity = reopen(hub).identity
    assert (identity.repository, identity.revision, identity.split, identity.rows) == (
        "clane9/imagenet-100",
        REVISION,
        "train",
        7,
    )
    assert identity.fingerprint == reopen(hub).identity.fingerprint


def test_other_bytes_give_another_fingerprint(hub: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "other" / "hub", (*ROWS[:-1], (stored("PNG", "RGB", 61), 10)))
    assert reopen(tmp_path / "other" / "hub").identity.fingerprint != reopen(hub).identity.fingerprint


def test_missing_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=REVISION) as caught:
        reopen(tmp_path / "hub")
    assert "snakemake bootstrap" in caught.value.diagnostics()


def test_another_revision_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "hub", revision="f" * 40)
    with pytest.raises(DatasetError, match=f"found revision {'f' * 40}; expected {REVISION}"):
        reopen(tmp_path / "hub")


def test_a_missing_row_is_refused(hub: Path) -> None:
    with pytest.raises(DatasetError, match="holds 7 train rows; expected 126689"):
        reopen(hub, PINNED)


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_shard_is_named(hub: Path, number: int) -> None:
    next(hub.rglob(f"train-0000{number}-*.parquet")).unlink()
    with pytest.raises(DatasetError, match=rf"missing: \[{number}\]"):
        reopen(hub)


def test_no_shards_at_all(hub: Path) -> None:
    for shard in hub.rglob("*.parquet"):
        shard.unlink()
    with pytest.raises(DatasetError, match="holds 0 train shards"):
        reopen(hub)


def test_a_truncated_shard_is_named(hub: Path) -> None:
    shard = next(hub.rglob("train-00001-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(DatasetError, match=r"train-00001-of-00002\.parquet is not a complete Parquet file"):
        reopen(hub)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (NAMES[:-1], "names 99 classes; expected 100"),
        ((NAMES[1], NAMES[0], *NAMES[2:]), "class 0 of the data set is 'green mamba'; expected 'bonnet"),
    ],
)
def test_other_classes_are_refused(tmp_path: Path, names: tuple[str, ...], match: str) -> None:
    write_shards(tmp_path / "hub", ((ROWS[0][0], 0),) * 7, names=names)
    with pytest.raises(DatasetError, match=match):
        reopen(tmp_path / "hub")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "hub" / FOLDER / "snapshots" / REVISION / "data"
    folder.mkdir(parents=True)
    table = pa.table({"picture": [b"x"] * 7})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    with pytest.raises(DatasetError, match="expected image"):
        reopen(tmp_path / "hub")


@pytest.fixture
def no_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "user"))
    return tmp_path / "user"


def test_the_door_looks_in_our_cache_and_in_the_users(tmp_path: Path, no_user_cache: Path) -> None:
    with pytest.raises(ArtifactMissing):
        open_source("imagenet100", cache_dir=tmp_path / "ours")
    write_shards(no_user_cache)
    with pytest.raises(DatasetError, match="expected 126689"):
        open_source("imagenet100", cache_dir=tmp_path / "ours")


def test_the_door_opens_only_the_train_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'train' only"):
        open_source("imagenet100", cache_dir=tmp_path, split="validation")


def test_the_pinned_revision_and_size() -> None:
    assert pinned_snapshot() == ShardFiles(
        "clane9/imagenet-100", "0519dc2f402a3a18c6e57f7913db059215eee25b", "train", 126_689
    )
