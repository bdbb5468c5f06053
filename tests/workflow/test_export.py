"""`snakemake export`: the bytes of one process, out of parts; a grown log adds to it; no bundle is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main
from tests.support.adversarial_dataset.logs import tree
from tests.support.auditing.honest import LOG_KEY, Honest, live
from tests.support.auditing.published import publish, publish_honest
from tests.workflow.conftest import Workflow


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """A log of three rounds."""
    return live(tmp_path_factory.mktemp("honest"), rounds=3)


@pytest.fixture
def workflow(source: Path, bytecode: dict[str, str], tmp_path: Path) -> Workflow:
    """The workflow with an empty cache."""
    return Workflow(source, tmp_path / "cache", tmp_path / "run", dict(bytecode))


def config(folder: Path) -> list[str]:
    values: dict[str, object] = {
        "bundle": folder / "log",
        "export_out": folder / "out",
        "export_key": folder / "log.key",
    }
    values |= {"shards": 2, "profile": "reference"}
    pairs = [f"{name}={value}" for name, value in values.items()]
    return ["--config", *pairs, "export_options=--shard-leaves 16"]


@pytest.mark.slow
def test_parts_give_the_bytes_of_one_process_and_a_grown_log_adds_to_them(
    honest: Honest, workflow: Workflow, tmp_path: Path
) -> None:
    (tmp_path / "log.key").write_text(LOG_KEY.encode())
    size = len(honest.entries) * 2 // 3
    for leaves in (honest.leaves()[:size], honest.leaves()):
        publish(leaves, tmp_path / "log", honest.blobs.folder)
        code, said = workflow.run("export", *config(tmp_path))
        assert code == 0, said
        assert ", signed" in said
        single = ["export", "dataset", str(tmp_path / "log"), str(tmp_path / "single")]
        options = ["--key", str(tmp_path / "log.key"), "--shard-leaves", "16"]
        done = CliRunner().invoke(main, [*single, *options])
        assert done.exit_code == 0, done.output
        assert tree(tmp_path / "out") == tree(tmp_path / "single")


@pytest.mark.slow
def test_a_part_that_fails_ends_it_and_the_next_call_goes_on(
    honest: Honest, workflow: Workflow, tmp_path: Path
) -> None:
    publish_honest(honest, tmp_path / "log")
    (tmp_path / "log.key").write_text(LOG_KEY.encode())
    blobs = tmp_path / "log" / "blobs"
    spoiled = {path: path.read_bytes() for path in blobs.rglob("*") if path.is_file()}
    for path in spoiled:
        path.write_bytes(b"spoiled")
    code, said = workflow.run("export", *config(tmp_path))
    assert code != 0
    assert not (tmp_path / "out" / "manifest.json").exists(), said
    for path, data in spoiled.items():
        path.write_bytes(data)
    code, said = workflow.run("export", *config(tmp_path))
    assert code == 0, said


def test_nothing_to_export_is_said(workflow: Workflow) -> None:
    code, said = workflow.run("export", "--config", "profile=reference")
    assert code != 0
    assert "add --config bundle=…" in said
