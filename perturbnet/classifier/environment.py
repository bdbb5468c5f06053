"""What computes: processors, driver, libraries. Recorded with what a validator says, never in a verdict.

Two machines that differ in any of this must still give the same bits; if ever they don't, this says where to
look. Sources: proc(5) for `/proc/cpuinfo`; NVIDIA's driver README for `/proc/driver/nvidia/version`.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

from perturbnet.runtime.provenance import Build, this_build

LIBRARIES = ("torch", "timm", "numpy", "numba", "pillow", "datasets", "bittensor")
_CPU = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)
_DRIVER = re.compile(r"\b(\d+\.\d+(?:\.\d+)*)\b")
_MOST_CHARACTERS = 200


def describe_environment(*, proc: Path = Path("/proc"), build: Build | None = None) -> dict[str, str]:
    """Build and packages, Python, machine, CPU with torch's instruction set, GPUs with driver, libraries.

    `build` is this process's own unless given: Nix store path or lock, and the digest of all packages.

    Raises:
        ArtifactMissing: a package is not installed, see `provenance.describe_build`.

    """
    import torch

    build = build or this_build()
    return {
        "build": build.origin,
        "packages": build.digest,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _find(_CPU, proc / "cpuinfo") or platform.processor() or "unknown",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))) or "none",
        "driver": _find(_DRIVER, proc / "driver" / "nvidia" / "version") or "none",
        **{name: version(name) for name in LIBRARIES},
    }


def _find(pattern: re.Pattern[str], file: Path) -> str:
    """The first match in a file of the system, cut to a reasonable length; empty where there is none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = pattern.search(text)
    return found[1].strip()[:_MOST_CHARACTERS] if found else ""
