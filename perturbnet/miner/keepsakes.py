"""What a miner keeps of its work: every answer it sent, and every acknowledgement it got, signed.

Rules
- An acknowledgement is a promise, signed by the validator, that a receipt is a certain leaf of its log.
  With it `perturb audit receipt` shows how the answer was logged, or proves that it was left out. With the
  answer's body a miner also shows what it sent where the log holds no pixels.
- Acknowledgements are lines of one file, only ever appended, each flushed to the disk. A line that a crash
  cut off stays, and the next one begins on a line of its own. A full file becomes `.1.jsonl`, in place of the
  one before.
- Bodies are files named by their digest, the newest `MAX_BODIES`.
- Keeping never costs an answer: a full disk is logged, and the miner works on.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from perturbnet.errors import LedgerError
from perturbnet.ledger import BlobStore
from perturbnet.runtime.folders import make_folder, sync_folder
from perturbnet.transport.evidence import MAX_KEPT_BYTES, SignedMessage

ACKNOWLEDGEMENTS_FILE = "acknowledgements.jsonl"
BODIES_FOLDER = "answers"
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_BODIES = 720

log = logging.getLogger(__name__)


class Keepsakes:
    """A folder of evidence. Threads may share it."""

    def __init__(
        self, folder: Path, *, max_file_bytes: int = MAX_FILE_BYTES, max_bodies: int = MAX_BODIES
    ) -> None:
        """Keep below `folder`, which is made when there is something to keep."""
        self.file = folder / ACKNOWLEDGEMENTS_FILE
        self.bodies = BlobStore(folder / BODIES_FOLDER)
        self._max_file_bytes, self._max_bodies = max_file_bytes, max_bodies
        self._one_at_a_time = threading.Lock()

    def keep_acknowledgement(self, message: SignedMessage) -> None:
        """Append it durably; what cannot be kept is logged."""
        line = message.encode()
        if len(line) > MAX_KEPT_BYTES:
            log.warning("An acknowledgement of %d bytes was not kept", len(line))
            return
        try:
            with self._one_at_a_time:
                self._append(line)
        except OSError as error:
            log.error("An acknowledgement was not kept in %s: %s", self.file, error.strerror)

    def keep_body(self, body: bytes) -> None:
        """Keep the bytes of an answer under their digest; what cannot be kept is logged."""
        try:
            with self._one_at_a_time:
                self.bodies.put(body)
                self._forget_bodies()
        except (LedgerError, OSError) as error:
            log.error("An answer was not kept: %s", error)

    def _append(self, line: bytes) -> None:
        make_folder(self.file.parent)
        if self.file.exists() and self.file.stat().st_size + len(line) >= self._max_file_bytes:
            self.file.replace(self.file.with_suffix(".1.jsonl"))
        is_new = not self.file.exists()
        handle = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "ab", buffering=0) as file:
            size = os.fstat(handle).st_size
            cut_off = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            file.write((b"\n" if cut_off else b"") + line + b"\n")
            os.fsync(handle)
        if is_new:
            sync_folder(self.file.parent)

    def _forget_bodies(self) -> None:
        kept = sorted(self.bodies.folder.glob("??/*"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[: -self._max_bodies]:
            self.bodies.drop(path.name)
