"""A data set in a repository of the hub: `load_adversarial("owner/name")` fetches what the manifest names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from perturbnet.adversarial_dataset.layout import MANIFEST
from perturbnet.adversarial_dataset.manifest import read_manifest
from tests.support.adversarial_dataset.logs import tree
from tests.support.hub_server import HubServer

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
import perturbnet
from tests.support.fakes import MemorySource
from perturbnet.errors import PerturbError

for name in sys.argv[1:]:
    try:
        examples = perturbnet.load_adversarial(name, source=MemorySource(12))
        print(sum(1 for clean, adversarial, label in examples))
    except PerturbError as error:
        print(type(error).__name__, error.message.replace(chr(10), " "))
"""


def load(hub: HubServer, cache: Path, *names: str) -> list[str]:
    """In a process of its own: huggingface_hub reads its address when it is imported."""
    settings = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files(out: Path) -> dict[str, bytes]:
    return {**tree(out), "data/train-unnamed.parquet": b"junk", "huge.bin": b"x" * 10_000}


def test_what_the_manifest_names_is_fetched_and_all_else_is_an_error(exported: Path, tmp_path: Path) -> None:
    manifest, whole = read_manifest(exported), tree(exported)
    nothing = ("perturb/nowhere", "perturb/empty", "..%2f/x", "a/b c")
    with HubServer() as hub:
        hub.add("dataset", "perturb/examples", files(exported))
        hub.add("dataset", "perturb/spoiled", {**whole, manifest.shards[0].path: b"PAR1"})
        hub.add("dataset", "perturb/empty", {"README.md": b"nothing"})
        said = load(hub, tmp_path / "hf", "perturb/examples", "perturb/spoiled", *nothing)
    assert said[0] == str(sum(shard.rows for shard in manifest.shards if shard.split == "train"))
    assert said[1].startswith("DigestMismatch")
    assert [line.partition(" ")[0] for line in said[2:]] == ["DatasetError"] * len(nothing)

    fetched = {path.name for path in (tmp_path / "hf").rglob("snapshots/*/**/*") if path.is_file()}
    assert MANIFEST in fetched
    assert not {"huge.bin", "train-unnamed.parquet"} & fetched
    assert not [name for name in fetched if name.startswith("test-")]
