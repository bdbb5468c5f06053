"""Try what a service must not do, and what it must be able to do; say for each what happened, as JSON.

Runs twice in the guest: inside a rendered unit's sandbox, and as plain root, where the same actions succeed.
So a probe that could not succeed anywhere proves nothing and is noticed.

    python probe.py OUTPUT
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PTRACE, SYS_MOUNT, SYS_CLOCK_SETTIME, SYS_UNSHARE = 101, 165, 227, 272  # x86_64
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
MINER_UNIT = "perturb-miner.service"


def call(number: int, *arguments: object) -> str:
    """A system call by number; raises OSError when it is denied."""
    if LIBC.syscall(number, *arguments) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "done"


def write(path: str) -> str:
    """Make a file and remove it."""
    file = Path(path)
    file.write_text("x")
    file.unlink()
    return "written"


def read(path: str) -> str:
    """Read a file's first bytes."""
    with Path(path).open("rb") as stream:
        return f"{len(stream.read(16))} bytes read"


def miner_process() -> int:
    """The miner's process, as whoever asks can know it: the number is in the environment."""
    return int(os.environ["MINER_PID"])


def mount() -> str:
    """Mount a file system over /mnt and take it away."""
    call(SYS_MOUNT, b"none", b"/srv/probe", b"tmpfs", 0, 0)
    subprocess.run(["/bin/umount", "/srv/probe"], check=True)
    return "mounted"


def in_child(number: int, *arguments: object) -> str:
    """A system call in a child, so that what it changes ends with the child."""
    child = os.fork()
    if child == 0:
        os._exit(0 if LIBC.syscall(number, *arguments) != -1 else ctypes.get_errno() or 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))
    return "done"


def signal_miner() -> str:
    """Ask whether the miner could be sent a signal."""
    os.kill(miner_process(), 0)
    return "could be"


def set_clock() -> str:
    """Set the clock to what it says."""
    now = (ctypes.c_long * 2)(int(time.time()), 0)
    return in_child(SYS_CLOCK_SETTIME, 0, ctypes.byref(now))


def make_group() -> str:
    """Make a control group and remove it."""
    group = Path("/sys/fs/cgroup/probe")
    group.mkdir()
    group.rmdir()
    return "made"


def attach() -> str:
    """Attach to the miner as a debugger would, and let go."""
    call(SYS_PTRACE, PTRACE_ATTACH, miner_process(), 0, 0)
    os.waitpid(miner_process(), 0)
    call(SYS_PTRACE, PTRACE_DETACH, miner_process(), 0, 0)
    return "attached"


def open_socket(family: int, kind: int, protocol: int = 0) -> str:
    """Open a socket of a family."""
    socket.socket(family, kind, protocol).close()
    return "opened"


def make_setuid() -> str:
    """Give a file of ours the set-user-id bit."""
    file = Path(os.environ.get("STATE_DIRECTORY", "/srv")) / "setuid"
    file.write_text("x")
    try:
        file.chmod(0o4755)
        return "made" if file.stat().st_mode & 0o4000 else "silently ignored"
    finally:
        file.unlink()


def other_processes() -> str:
    """Count processes of others; raises PermissionError when only our own are visible."""
    me = os.getuid()
    others = [
        entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _owner(entry) not in {me, None}
    ]
    named = [entry for entry in others if (entry / "cmdline").exists()]
    if me != 0 and not named:
        raise PermissionError(1, "only our own are visible")
    return f"{len(named)} visible"


def _owner(entry: Path) -> int | None:
    try:
        return entry.stat().st_uid
    except OSError:
        return None


def execute_written_memory() -> str:
    """Run a return from memory that was writable, as a compiler at run time does."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b"\xc3")
    ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
    return "executed"


def talk_over_loopback() -> str:
    """A connection to ourselves."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        return "connected"


DENIED: dict[str, Callable[[], str]] = {
    "write /etc": lambda: write("/etc/probe"),
    "write /usr": lambda: write("/usr/probe"),
    "write its own program": lambda: write("/opt/perturb/.venv/probe"),
    "write another's state": lambda: write("/var/lib/private/perturb-miner/probe"),
    "read another's state": lambda: read("/var/lib/private/perturb-miner/nonces.sqlite"),
    "read a home": lambda: read(str(Path("/home") / "alice" / "secret")),
    "read root's home": lambda: read(str(Path("/root") / "secret")),
    "read another's hotkey": lambda: read("/etc/perturb/perturb-miner.hotkey"),
    "read another's credential": lambda: read(f"/run/credentials/{MINER_UNIT}/hotkey"),
    "read another's memory map": lambda: read(f"/proc/{miner_process()}/maps"),
    "read another's environment": lambda: read(f"/proc/{miner_process()}/environ"),
    "see others' processes": other_processes,
    "signal another": signal_miner,
    "attach to another": attach,
    "read the disk": lambda: read("/dev/vda"),
    "read the kernel's log": lambda: read("/dev/kmsg"),
    "write a kernel setting": lambda: str(Path("/proc/sys/kernel/domainname").write_text("x")),
    "make a control group": make_group,
    "mount": mount,
    "new user namespace": lambda: in_child(SYS_UNSHARE, CLONE_NEWUSER),
    "new network namespace": lambda: in_child(SYS_UNSHARE, CLONE_NEWNET),
    "set the clock": set_clock,
    "raise its priority": lambda: str(os.nice(-5)),
    "packet socket": lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink socket": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "raw socket": lambda: open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "set-user-id file": make_setuid,
}
ALLOWED: dict[str, Callable[[], str]] = {
    "write its state": lambda: write(os.environ["STATE_DIRECTORY"] + "/probe"),
    "write its cache": lambda: write(os.environ["CACHE_DIRECTORY"] + "/probe"),
    "read its own hotkey": lambda: read(os.environ["PERTURB_HOTKEY_FILE"]),
    "read the processor's name": lambda: read("/proc/cpuinfo"),
    "compile at run time": execute_written_memory,
    "loopback": talk_over_loopback,
    "internet socket": lambda: open_socket(socket.AF_INET6, socket.SOCK_STREAM),
}


def attempt(action: Callable[[], str]) -> dict[str, str]:
    """Whether it could be done, and what came of it."""
    try:
        return {"result": "done", "detail": action()}
    except OSError as error:
        return {"result": "denied", "detail": f"{type(error).__name__}: {error.strerror}"}


def main() -> None:
    """Try everything and write what happened."""
    found = {
        "uid": os.getuid(),
        "denied": {name: attempt(action) for name, action in DENIED.items()},
        "allowed": {name: attempt(action) for name, action in ALLOWED.items()},
    }
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
