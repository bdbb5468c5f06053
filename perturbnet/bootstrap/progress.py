"""How far a bootstrap is, read from the disk: whoever looks need not be the one who works.

Bytes come from the sizes of what was fetched so far, rows from the records of finished parts and from a small
file beside each unfinished one, which its command writes a few times a second and removes at the end.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.profile import bytes_to_fetch
from perturbnet.bootstrap.records import read_json
from perturbnet.errors import ArtifactError
from perturbnet.hub.disk import readable_bytes
from perturbnet.runtime.progress import Progress

_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class BootstrapStatus:
    """Bytes fetched and rows fingerprinted, of how many; 0 of 0 while that is not known."""

    bytes_done: int
    bytes_total: int
    rows_done: int
    rows_total: int

    def __str__(self) -> str:
        """In words."""
        fetched = f"{readable_bytes(self.bytes_done)} of {readable_bytes(self.bytes_total)} fetched, "
        rows = f"{self.rows_done} of {self.rows_total} rows fingerprinted"
        return (fetched if self.bytes_total else "") + rows


def take_standing(plan: BootstrapPlan) -> BootstrapStatus:
    """Look at the disk now. Nothing that cannot be read yet is an error: it counts as nothing."""
    total = done = 0
    names: list[str] = []
    with suppress(ArtifactError, OSError):
        if plan.from_hub:
            listing = plan.listing()
            total = sum(file.size for snapshot in listing.values() for file in snapshot.files)
            done = total - bytes_to_fetch(listing, plan.place.cache_dir / "hub")
        names = plan.data_files()
    rows = sum(_rows_of(plan.place.part(name)) for name in names)
    return BootstrapStatus(done, total, rows, plan.rows or 0)


def telling_rows(record: Path) -> Progress:
    """Return a progress callback that leaves the count beside `record` until the work is done."""
    path, last_s = _beside(record), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if done == total:
            path.unlink(missing_ok=True)
        elif now_s - last_s > _EVERY_S:
            last_s = now_s
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(done))

    return tell


def _beside(record: Path) -> Path:
    return record.with_suffix(".progress")


def _rows_of(record: Path) -> int:
    with suppress(ArtifactError, OSError, ValueError, TypeError):
        if record.exists():
            return int(read_json(record)["rows"])
        return int(_beside(record).read_text())
    return 0
