"""What computes is described, wherever the system says less."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from perturbnet.classifier.environment import LIBRARIES, describe_environment
from perturbnet.wire import canonical_json


def test_this_machine() -> None:
    found = describe_environment()
    named = {"build", "packages", "python", "machine", "cpu", "instructions", "gpu", "driver"}
    assert named | set(LIBRARIES) == set(found)
    assert found["torch"] == version("torch")
    assert all(found.values())
    canonical_json.encode(found)


def test_a_gpu_machine(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n")
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Wed Jan 1 00:00:00 UTC 2025\n"
    (tmp_path / "driver" / "nvidia" / "version").write_text(line)
    found = describe_environment(proc=tmp_path)
    assert (found["cpu"], found["driver"]) == ("Some CPU @ 3 GHz", "570.86.15")


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    found = describe_environment(proc=tmp_path / "absent")
    assert found["cpu"]
    assert found["driver"] == "none"


def test_a_hostile_file_is_cut(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(b"model name : " + b"\xff" * 5000 + b"\n")
    assert len(describe_environment(proc=tmp_path)["cpu"]) <= 200
