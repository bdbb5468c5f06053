"""What the audit's workflow asks Python for: its configuration, checked, and the names of its files.

Keys of `--config`: `bundle`, `hotkey` (both needed for the target `audit`), `anchors` (`chain` or a file),
`netuid`, `shards`, `audit_out` (a folder), `audit_options` (more options of `perturb audit`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbnet.errors import AuditError

DEFAULT_SHARDS = 8


@dataclass(frozen=True)
class Audited:
    """An audit in parts: what is audited, and where its files lie."""

    bundle: str
    hotkey: str
    anchors_from: str
    netuid: str
    profile: str
    shards: int
    folder: Path
    more: str

    @property
    def plan(self) -> str:
        """What is audited."""
        return str(self.folder / "plan.json")

    @property
    def anchors(self) -> str:
        """The anchors from outside, for parts that have no network."""
        return str(self.folder / "anchors.json")

    @property
    def report(self) -> str:
        """The one report."""
        return str(self.folder / "report.json")

    @property
    def subnet(self) -> str:
        """The option that names the subnet."""
        return shlex.join(["--netuid", self.netuid]) if self.netuid else ""

    @property
    def options(self) -> str:
        """The options of every part."""
        profile = shlex.join(["--profile", self.profile]) if self.profile else ""
        return " ".join(filter(None, (self.subnet, profile, self.more)))

    def part(self, name: str) -> str:
        """A part's report."""
        return str(self.folder / "parts" / f"{name}.json")

    def log(self, name: str) -> str:
        """What a part said."""
        return str(self.folder / "logs" / f"{name}.log")

    def parts(self) -> Callable[..., list[str]]:
        """An input function: every part's report; raises `AuditError` where nothing was named to audit."""

        def names(_wildcards: object = None) -> list[str]:
            missing = [name for name in ("bundle", "hotkey") if not getattr(self, name)]
            if missing:
                wanted = " ".join(f"{name}=…" for name in missing)
                raise AuditError(f"what is to be audited? add --config {wanted}")
            ranges = [f"{number}-of-{self.shards}" for number in range(1, self.shards + 1)]
            return [self.part(name) for name in ("log", *ranges)]

        return names


def read_config(config: Mapping[str, Any]) -> Audited:
    """Read what `--config` says; Snakemake's schema has checked the types."""

    def text(name: str, default: str = "") -> str:
        value = config.get(name)
        return default if value is None else str(value)

    return Audited(
        bundle=text("bundle"),
        hotkey=text("hotkey"),
        anchors_from=text("anchors", "chain"),
        netuid=text("netuid"),
        profile=text("profile"),
        shards=int(text("shards", str(DEFAULT_SHARDS))),
        folder=Path(text("audit_out", "audit")),
        more=text("audit_options"),
    )
