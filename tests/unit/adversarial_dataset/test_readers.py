"""Readers without our code: `datasets` and mlcroissant read an export as it lies."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perturbnet.adversarial_dataset.columns import columns_of
from perturbnet.adversarial_dataset.layout import CARD, CROISSANT, Mode, Split
from perturbnet.adversarial_dataset.manifest import read_manifest
from perturbnet.wire.images import pixel_digest
from tests.support.adversarial_dataset.logs import Published
from tests.support.auditing.honest import tampered


def splits(out: Path) -> list[Split]:
    return [split for split in Split if read_manifest(out).rows(split)]


class TestDatasets:
    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        bars = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        yield
        if bars:
            datasets.enable_progress_bars()

    def load(self, out: Path, cache: Path) -> Any:
        import datasets

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            return datasets.load_dataset(str(out), cache_dir=str(cache))

    def test_pictures_are_images_and_every_one_has_its_digest(
        self, published: Published, with_pictures: Path, tmp_path: Path
    ) -> None:
        found = self.load(with_pictures, tmp_path)
        assert sorted(found) == sorted(splits(with_pictures))
        assert sum(len(rows) for rows in found.values()) == read_manifest(with_pictures).rows()
        for rows in found.values():
            for row in rows:
                assert pixel_digest(np.asarray(row["clean"])) == row["clean_pixels"]
                assert pixel_digest(np.asarray(row["adversarial"])) == row["adversarial_pixels"]

    def test_perturbations_are_lists_of_integers(
        self, published: Published, exported: Path, tmp_path: Path
    ) -> None:
        found = self.load(exported, tmp_path)
        row, ours = found["train"][0], published.opened(exported).row(0)
        assert (row["positions"], row["changes"]) == (ours["positions"].tolist(), ours["changes"].tolist())
        assert (row["linf"], row["label"], row["miner"]) == (ours["linf"], ours["label"], ours["miner"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlcroissant's own, of rdflib and pandas
class TestCroissant:
    @pytest.mark.parametrize("kind", ["exported", "with_pictures"])
    def test_it_is_valid_and_every_record_can_be_read(
        self, published: Published, kind: str, request: pytest.FixtureRequest
    ) -> None:
        import mlcroissant

        out: Path = request.getfixturevalue(kind)
        found = mlcroissant.Dataset(jsonld=str(out / CROISSANT))
        issues = found.metadata.issues
        assert issues.errors == set()
        assert [text for text in issues.warnings if "datePublished" not in text] == []
        names = [record_set.id for record_set in found.metadata.record_sets]
        leaves = [record[f"{name}/leaf"] for name in names for record in found.records(name)]
        assert sorted(leaves) == [row["leaf"] for row in published.rows(out)]

    def test_every_column_is_a_field(self, exported: Path) -> None:
        value = json.loads((exported / CROISSANT).read_text())
        for record_set in value["recordSet"]:
            assert [field["name"] for field in record_set["field"]] == [
                column.name for column in columns_of(Mode.DELTA)
            ]


class TestCard:
    def test_the_front_matter_is_what_the_hub_reads(self, exported: Path) -> None:
        from huggingface_hub import DatasetCard

        card = dict(DatasetCard((exported / CARD).read_text()).data.__dict__)
        assert card["license"] == "other"
        assert [one["split"] for one in card["configs"][0]["data_files"]] == splits(exported)
        described = {one["name"]: one for one in card["dataset_info"]["splits"]}
        assert {name: one["num_examples"] for name, one in described.items()} == {
            split.value: read_manifest(exported).rows(split) for split in splits(exported)
        }

    def test_it_says_what_was_not_checked(self, exported: Path) -> None:
        text = (exported / CARD).read_text()
        assert "- not checked: classes before and after (`--margins`): `perturb audit` does" in text
        assert "signed by the log's key" in text

    def test_a_strangers_text_stays_text(self, published: Published, tmp_path: Path) -> None:
        place = next(at for at, leaf in enumerate(published.honest.leaves()) if leaf.kind == "config")
        name = "x`\n---\nlicense: mit\n<script>alert(1)</script>| [a](javascript:b)"
        leaves = tampered(published.honest, place, model_name=name)
        published.export(tmp_path / "out", bundle=published.grow(tmp_path / "bundle", leaves))
        text = (tmp_path / "out" / CARD).read_text()
        assert "<script>" not in text
        assert "javascript:b)" not in text
        assert "license: mit" not in text.partition("\n---\n")[0]
        assert "\nlicense: mit" not in text
