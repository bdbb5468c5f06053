"""Boot the guest, let it run the trial from its share, and read what it found.

Rules
- The disk is only read: what the guest writes goes to a layer that ends with it.
- Shares are read-only: `trial` (scenario, probe, this project's committed files) and `env`, the site-packages
  of the environment that runs this, so that the units run in the very environment in use.
- No network card: a unit that reaches out fails. Results come back over a second serial line, as JSON lines.

Source: qemu(1) for the options; the guest sees virtio-blk as /dev/vda and the lines as ttyS0 and ttyS1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from .image import Image

MEMORY_MIB = 6144
PROCESSORS = 2
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SHIPPED = (
    "perturbnet",
    "neurons",
    "workflow",
    "profiles",
    "config",
    "packaging",
    "Snakefile",
    "requirements.lock",
    "pyproject.toml",
    "tests/nix/open_network.py",
)


@dataclass(frozen=True)
class Outcome:
    """What the guest said: its findings in order, and its console."""

    findings: list[dict[str, object]]
    console: str

    def finding(self, name: str) -> dict[str, object]:
        """The finding of this name.

        Raises:
            KeyError: the trial did not come that far; the end of the console is in the message.

        """
        for item in self.findings:
            if item.get("name") == name:
                return item
        raise KeyError(f"the guest did not report {name!r}; its console ends with\n{self.console[-3000:]}")


def prepare_share(folder: Path) -> None:
    """Put into `folder` what the guest runs: the scenario and this project as it is committed."""
    code = folder / "code"
    code.mkdir(parents=True)
    for name in ("scenario.py", "probe.py"):
        shutil.copy(HERE / name, folder / name)
    if (ROOT / ".git").exists():
        archive = subprocess.run(
            ["git", "archive", "HEAD", "--", *SHIPPED], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)
        return
    for name in SHIPPED:
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, code / name)


def run_machine(image: Image, folder: Path, *, within_s: float) -> Outcome:
    """Boot, wait until the guest has switched itself off, and return what it reported.

    Raises:
        subprocess.TimeoutExpired: it did not end in time and was killed; the console stays in `folder`.
        subprocess.CalledProcessError: qemu failed.

    """
    share = folder / "trial"
    prepare_share(share)
    console, results = folder / "console.log", folder / "results.jsonl"
    subprocess.run(_command(image, share, console, results), check=True, timeout=within_s)
    return read_outcome(results, console)


def read_outcome(results: Path, console: Path) -> Outcome:
    """What the two files hold."""
    lines = results.read_text(errors="replace").splitlines()
    findings = [json.loads(line) for line in lines if line.startswith("{")]
    return Outcome(findings, console.read_text(errors="replace"))


def _command(image: Image, share: Path, console: Path, results: Path) -> list[str]:
    environment = sysconfig.get_paths()["purelib"]
    shared = "security_model=none,readonly=on,multidevs=remap"
    return [
        *("nice", "-n", "10", "qemu-system-x86_64", "-enable-kvm", "-cpu", "host"),
        *(
            "-m",
            str(MEMORY_MIB),
            "-smp",
            str(PROCESSORS),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ),
        *("-nic", "none", "-no-reboot", "-rtc", "base=utc"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=no"),
        *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
        *("-serial", f"file:{console}", "-serial", f"file:{results}"),
        *("-virtfs", f"local,path={share},mount_tag=trial,{shared}"),
        *("-virtfs", f"local,path={environment},mount_tag=env,{shared}"),
    ]
