"""The guest's disk: a small Debian with systemd, made by debootstrap and kept for the next run.

Rules
- Only Debian's own stable release (its systemd is the oldest these units are for); debootstrap knows where it
  is and checks its signatures. Nothing of this project is in the disk: that comes as shares when it boots.
- Built aside and renamed, so an interrupted build leaves nothing that looks complete. The name follows from
  what goes in, so another recipe makes another disk.
- The disk is never written to: a machine gets a throw-away layer above it.

Needs root, debootstrap and mkfs.ext4.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

RELEASE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "kmod",
    "libnss-systemd",
    "linux-image-amd64",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
    "util-linux",
)
MODULES = ("9p", "9pnet_virtio", "virtio_blk", "virtio_pci", "ext4")
DISK_BYTES = 6 * 2**30
BUILD_WITHIN_S = 1800
TRIAL = """\
[Unit]
Description=The trial that the host has put in the share

[Service]
Type=exec
ExecStartPre=/bin/mkdir -p /mnt/trial
ExecStartPre=/bin/sh -c 'mountpoint -q /mnt/trial || \
  mount -t 9p -o trans=virtio,version=9p2000.L,ro trial /mnt/trial'
ExecStart=/usr/bin/python3 /mnt/trial/scenario.py
StandardOutput=journal+console
ExecStopPost=/bin/systemctl poweroff --no-block

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Image:
    """What a machine boots."""

    kernel: Path
    initrd: Path
    disk: Path


def recipe_digest() -> str:
    """A short name for everything that decides what is in the disk."""
    parts = [RELEASE, *PACKAGES, *MODULES, TRIAL, str(DISK_BYTES)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def open_image(cache: Path) -> Image:
    """The image in `cache`; it is built first if it is not there.

    Raises:
        subprocess.CalledProcessError: a step failed; its output went to this process's own.

    """
    place = cache / f"{RELEASE}-{recipe_digest()}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as folder:
            _build(Path(folder), cache / f"{RELEASE}-tree")
            (Path(folder) / "made").rename(place)
    return Image(place / "vmlinuz", place / "initrd", place / "disk.ext4")


def _build(folder: Path, tree: Path) -> None:
    made, root = folder / "made", folder / "root"
    made.mkdir()
    if not tree.exists():
        fresh = folder / "tree"
        _run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(fresh))
        fresh.rename(tree)
    _run("cp", "-a", "--reflink=auto", str(tree), str(root))
    _prepare(root)
    for name, kept in (("vmlinuz-*", "vmlinuz"), ("initrd.img-*", "initrd")):
        (found,) = (root / "boot").glob(name)
        shutil.copyfile(found, made / kept)
    disk = made / "disk.ext4"
    with disk.open("wb") as stream:
        stream.truncate(DISK_BYTES)
    _run("mkfs.ext4", "-q", "-d", str(root), str(disk))


def _prepare(root: Path) -> None:
    """What the disk has beside Debian: no login, a journal that stays, the unit that starts the trial."""
    (root / "etc" / "hostname").write_text("guest\n")
    (root / "etc" / "fstab").write_text("")
    (root / "etc" / "machine-id").write_text("uninitialized\n")
    (root / "etc" / "initramfs-tools" / "modules").write_text("".join(f"{name}\n" for name in MODULES))
    (root / "etc" / "systemd" / "system" / "trial.service").write_text(TRIAL)
    wanted = root / "etc" / "systemd" / "system" / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "trial.service").symlink_to("/etc/systemd/system/trial.service")
    _run("chroot", str(root), "update-initramfs", "-u")
    shutil.rmtree(root / "var" / "cache" / "apt" / "archives", ignore_errors=True)


def _run(*command: str) -> None:
    subprocess.run(["nice", "-n", "10", *command], check=True, timeout=BUILD_WITHIN_S)
