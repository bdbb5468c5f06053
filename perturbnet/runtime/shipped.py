"""Files that belong to the program and are no modules: in a checkout, or under `share/perturb`."""

from __future__ import annotations

import sys
from pathlib import Path

from perturbnet import version
from perturbnet.errors import ArtifactMissing


def find_shipped(name: str | Path) -> Path | None:
    """The file of this name beside the package or in the installation's share; None where there is none."""
    return next((place / name for place in _places() if (place / name).is_file()), None)


def require_shipped(name: str | Path, what: str) -> Path:
    """The same, for a file that must be there.

    Raises:
        ArtifactMissing: it is not; `what` names it, and the hint says where it was looked for.

    """
    found = find_shipped(name)
    if found is None:
        looked = ", ".join(map(str, _places()))
        raise ArtifactMissing(f"this installation has no {what}", hint=f"It was looked for in {looked}.")
    return found


def _places() -> tuple[Path, Path]:
    return Path(version.__file__).parent.parent, Path(sys.prefix) / "share" / "perturb"
