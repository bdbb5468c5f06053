"""What the export's workflow asks Python for: its configuration, checked, and the names of its files.

Keys of `--config`: `bundle` (needed for the target `export`), `export_out` (the data set's folder),
`export_work` (marks and logs), `export_options` (more options of `perturb export plan`, such as --mode full),
`export_key` (the log's private key), `shards` (how many parts), `profile`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbnet.errors import OutputError

DEFAULT_PARTS = 8


@dataclass(frozen=True)
class Exported:
    """An export in parts: of what, and where its files lie."""

    bundle: str
    out: str
    wishes: str
    key_file: str
    profile_name: str
    parts_of: int
    folder: Path

    @property
    def plan(self) -> str:
        """Says that what is exported is fixed."""
        return str(self.folder / "plan.done")

    @property
    def key(self) -> str:
        """The option that signs."""
        return shlex.join(["--key", self.key_file]) if self.key_file else ""

    @property
    def profile(self) -> str:
        """The option that names data set and model."""
        return shlex.join(["--profile", self.profile_name]) if self.profile_name else ""

    def part(self, name: str) -> str:
        """Says that a part is done."""
        return str(self.folder / "parts" / f"{name}.done")

    def log(self, name: str) -> str:
        """What a part said."""
        return str(self.folder / "logs" / f"{name}.log")

    def parts(self) -> Callable[..., list[str]]:
        """An input function: every part's mark; raises `OutputError` where nothing was named to export."""

        def names(_wildcards: object = None) -> list[str]:
            if not self.bundle:
                raise OutputError("what is to be exported? add --config bundle=…")
            return [self.part(f"{number}-of-{self.parts_of}") for number in range(1, self.parts_of + 1)]

        return names


def read_config(config: Mapping[str, Any]) -> Exported:
    """Read what `--config` says; Snakemake's schema has checked the types."""

    def text(name: str, default: str = "") -> str:
        value = config.get(name)
        return default if value is None else str(value)

    return Exported(
        bundle=text("bundle"),
        out=text("export_out", "dataset"),
        wishes=text("export_options"),
        key_file=text("export_key"),
        profile_name=text("profile"),
        parts_of=int(text("shards", str(DEFAULT_PARTS))),
        folder=Path(text("export_work", "export")),
    )
