"""A writer whose system calls are watched, failed or cut off, and the disk as a power cut would leave it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from perturbnet.ledger import BlobStore, LedgerStore
from tests.support.ledger.samples import skip

CALLS = ("pwrite64", "write", "fsync", "fdatasync", "rename", "link", "ftruncate")
LEAVES_EACH, ROUNDS = 7, 12
_WRITER = f"""
import sys
from pathlib import Path
from perturbnet.errors import LedgerError
from perturbnet.ledger import BlobStore, LedgerStore
from tests.support.ledger.samples import skip

folder = Path(sys.argv[1])
with LedgerStore(folder / "ledger.sqlite") as store:
    if len(sys.argv) > 2:
        store._db.execute(f"PRAGMA synchronous={{sys.argv[2]}}")
    for number in range({ROUNDS}):
        try:
            digest = BlobStore(folder / "blobs").put(b"%d" % number * 100)
            entries = store.append([skip(number, digest) for _ in range({LEAVES_EACH})])
        except LedgerError as error:
            assert "not recorded" in error.message or "nothing was recorded" in error.message, error.message
        else:
            sys.stdout.write(f"ack {{entries[0].position}} {{number}} {{digest}}\\n")
            sys.stdout.flush()
"""


@dataclass(frozen=True)
class Run:
    """What a writer acknowledged, and what strace saw."""

    acks: list[tuple[int, int, str]]
    trace: list[str]

    @property
    def injected(self) -> int:
        """How many calls were made to fail."""
        return sum("(INJECTED)" in line for line in self.trace)


def run_writer(folder: Path, *options: str, synchronous: str = "") -> Run:
    """Run the writer under strace with these options."""
    folder.mkdir(exist_ok=True)
    record = folder.parent / f"{folder.name}.strace"
    command = ["strace", "-f", "-qq", "-y", "-o", str(record), *options]
    writer = [sys.executable, "-B", "-c", _WRITER, str(folder), *([synchronous] if synchronous else [])]
    done = subprocess.run([*command, *writer], capture_output=True, text=True, check=False, timeout=120)
    acks = [
        (int(place), int(number), digest)
        for place, number, digest in re.findall(
            r"^ack (\d+) (\d+) ([0-9a-f]{64})$", done.stdout, re.MULTILINE
        )
    ]
    return Run(acks, record.read_text(errors="replace").splitlines())


def check_acknowledged(folder: Path, acks: list[tuple[int, int, str]]) -> int:
    """Open what is left; everything that was acknowledged is there, whole. Returns how many leaves."""
    with LedgerStore(folder / "ledger.sqlite") as store:
        store.verify()
        leaves = [entry.leaf for entry in store.entries()]
        for position, number, digest in acks:
            assert leaves[position : position + LEAVES_EACH] == [skip(number, digest)] * LEAVES_EACH
            assert BlobStore(folder / "blobs").get(digest) == b"%d" % number * 100
        assert len(leaves) % LEAVES_EACH == 0
        store.append([skip(99)])
        return len(leaves)


@dataclass
class Disk:
    """Files as a program sees them, and as a power cut leaves them: what was not flushed may be lost.

    Names are on the disk once their folder was flushed; folders themselves are taken for granted.
    """

    seen: dict[str, bytearray] = field(default_factory=dict)
    flushed: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # name -> name under which its bytes are kept
    kept_names: dict[str, str] = field(default_factory=dict)
    changes: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    def create(self, name: str) -> None:
        if name not in self.names:
            inode = f"{name}#{len(self.seen)}"
            self.names[name] = inode
            self.seen[inode] = bytearray()

    def write(self, name: str, data: bytes, offset: int | None) -> None:
        inode = self.names[name]
        content = self.seen[inode]
        start = len(content) if offset is None else offset
        content.extend(bytes(max(0, start + len(data) - len(content))))
        content[start : start + len(data)] = data
        self.changes.setdefault(inode, []).append((start, data))

    def truncate(self, name: str, length: int) -> None:
        del self.seen[self.names[name]][length:]

    def flush(self, name: str) -> None:
        if name in self.names:
            inode = self.names[name]
            self.flushed[inode] = bytes(self.seen[inode])
            self.changes.pop(inode, None)
            self.kept_names.setdefault(name, inode)  # ext4 and xfs keep a new file's name with its bytes
        else:
            inside = f"{name}/"
            self.kept_names = {k: v for k, v in self.kept_names.items() if not _directly(k, inside)}
            self.kept_names |= {k: v for k, v in self.names.items() if _directly(k, inside)}

    def link(self, old: str, new: str) -> None:
        self.names[new] = self.names[old]

    def rename(self, old: str, new: str) -> None:
        self.names[new] = self.names.pop(old)

    def cut(self, root: str, folder: Path, random_: random.Random) -> None:
        """Write what a power cut leaves below `folder`: flushed bytes, and any part of what came after."""
        for name, inode in self.kept_names.items():
            content = bytearray(self.flushed.get(inode, b""))
            for start, data in self.changes.get(inode, ()):
                if random_.random() < 0.5:
                    content.extend(bytes(max(0, start + len(data) - len(content))))
                    content[start : start + len(data)] = data
            path = folder / Path(name).relative_to(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _directly(name: str, inside: str) -> bool:
    return name.startswith(inside) and "/" not in name[len(inside) :]


_FD = r"\d+<(?P<name>[^>]*)>"
_OPEN = re.compile(rf'openat\([^,]*, "[^"]*", [^)]*O_CREAT.*\) = {_FD}$')
_WRITE = re.compile(
    rf'(?P<call>pwrite64|write)\({_FD}, "(?P<data>[^"]*)", \d+(?:, (?P<offset>\d+))?\) = \d+$'
)
_FLUSH = re.compile(rf"(?:fsync|fdatasync)\({_FD}\) = 0$")
_MOVE = re.compile(r'(?P<call>rename|link)\("(?P<old>[^"]*)", "(?P<new>[^"]*)"\) = 0$')
_CUT = re.compile(rf"ftruncate\({_FD}, (?P<length>\d+)\) = 0$")


def replay(disk: Disk, line: str, root: str) -> str:
    """Let one traced call happen on the model; returns what it wrote to standard output."""
    call = line.split(" ", 1)[1].strip()
    if found := _OPEN.match(call):
        if found["name"].startswith(root):
            disk.create(found["name"])
    elif found := _WRITE.match(call):
        data = bytes.fromhex(found["data"].replace("\\x", ""))
        if found["name"].startswith(root):
            disk.create(found["name"])
            disk.write(found["name"], data, int(found["offset"]) if found["offset"] else None)
        elif data.startswith(b"ack "):
            return data.decode()
    elif found := _FLUSH.match(call):
        disk.flush(found["name"])
    elif found := _CUT.match(call):
        disk.truncate(found["name"], int(found["length"]))
    elif (found := _MOVE.match(call)) and found["old"].startswith(root):
        (disk.link if found["call"] == "link" else disk.rename)(found["old"], found["new"])
    return ""
