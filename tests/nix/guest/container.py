"""The same trial in a container: the guest's own systemd as process 1, on this machine's kernel.

For machines whose KVM cannot run Debian's kernel at a usable speed. Units, sandbox and watchdog are the same
code; what a container cannot show is named in `UNPROVEN`.

Rules
- The disk is mounted read-only and lies under a layer that goes away. /sys and /proc/sys are read-only, the
  network is loopback alone, and what would change this machine (its clock, its modules) is dropped from the
  bounding set before anything starts: systemd in there must not be able to touch the host.
- Everything happens in namespaces of one child; when it ends, mounts and processes end with it.

Source: systemd's container interface (systemd.io/CONTAINER_INTERFACE); unshare(1), pivot_root(8).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sysconfig
from pathlib import Path

from .image import Image
from .machine import Outcome, prepare_share, read_outcome

# Denied to root too in there, so that a denial in the unit proves nothing.
UNPROVEN = frozenset({"read the disk", "read the kernel's log", "write a kernel setting", "set the clock"})
DROPPED = (
    "sys_time",
    "sys_module",
    "sys_rawio",
    "syslog",
    "mac_admin",
    "mac_override",
    "wake_alarm",
    "block_suspend",
)
SCRIPT = r"""
set -eu
disk=$1 layer=$2 trial=$3 env=$4 results=$5 dropped=$6
mount --make-rprivate /
mount -t tmpfs -o size=8g layer "$layer"
mkdir "$layer/lower" "$layer/upper" "$layer/work" "$layer/root"
mount -o loop,ro,noload "$disk" "$layer/lower"
root=$layer/root
mount -t overlay -o "lowerdir=$layer/lower,upperdir=$layer/upper,workdir=$layer/work" overlay "$root"
mkdir -p "$root/mnt/trial" "$root/opt/perturb/env" "$root/old"
: > "$root/srv/results.jsonl"
mount --bind "$trial" "$root/mnt/trial" && mount -o remount,bind,ro "$root/mnt/trial"
mount --bind "$env" "$root/opt/perturb/env" && mount -o remount,bind,ro "$root/opt/perturb/env"
mount --bind "$results" "$root/srv/results.jsonl"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys" && mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t tmpfs -o mode=755 run "$root/run"
cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared /  # as systemd expects of whoever starts it: what it mounts for a unit, the unit sees
exec env -i container=perturb-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  setpriv --bounding-set "$dropped" --inh-caps "$dropped" /usr/lib/systemd/systemd
"""


def run_container(image: Image, folder: Path, *, within_s: float) -> Outcome:
    """Start the guest's systemd, wait until it has switched itself off, and return what it reported.

    Raises:
        subprocess.TimeoutExpired: it did not end in time and was killed; the console stays in `folder`.
        subprocess.CalledProcessError: the container could not be made.

    """
    share, layer = folder / "trial", folder / "layer"
    prepare_share(share)
    layer.mkdir()
    console, results = folder / "console.log", folder / "results.jsonl"
    results.touch()
    dropped = ",".join(f"-{name}" for name in DROPPED)
    words = [image.disk, layer, share, sysconfig.get_paths()["purelib"], results, dropped]
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup"]
    command = ["nice", "-n", "10", "unshare", *spaces, "sh", "-c", SCRIPT, "sh", *map(str, words)]
    group = _cgroup_root() / f"perturb-guest-{os.getpid()}"
    group.mkdir()
    try:
        with console.open("wb") as stream:
            subprocess.run(
                ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group), *command],
                check=False,
                timeout=within_s,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
            )
    finally:
        _remove(group)
    return read_outcome(results, console)


def _cgroup_root() -> Path:
    """Where this machine has its unified hierarchy."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise FileNotFoundError("no cgroup2 is mounted")


def _remove(group: Path) -> None:
    """The group and all below it; the processes in it have ended with their process 1."""
    for path in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
