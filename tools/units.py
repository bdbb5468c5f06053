"""Write packaging/systemd/: what `perturb unit` prints for a clone in /opt/perturb.

Rules
- Nothing there is written by hand; tests/unit/commands/test_systemd_units.py holds that.
- `cuda/` holds the units that reach NVIDIA's devices, under the same names: install one or the other.

    python tools/units.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from perturbnet.commands.systemd_units import SOURCE, read_source, render_unit  # noqa: E402
from perturbnet.commands.unit import header  # noqa: E402 - a script finds its own tree first

FOLDER = Path("packaging") / "systemd"
PROGRAM = "/opt/perturb/.venv/bin/perturb"


def generated() -> dict[str, str]:
    """What each file must hold, by its path in the repository."""
    source = read_source(ROOT / SOURCE)
    found = {}
    for role, entry in source["roles"].items():
        for cuda in (False, True) if entry["cuda"] else (False,):
            unit = render_unit(source, role, program=PROGRAM, cuda=cuda)
            folder = FOLDER / "cuda" if cuda else FOLDER
            found[str(folder / unit.name)] = header(unit) + unit.text
    return found


def main() -> int:
    """Write the files and name those that changed."""
    for name, text in generated().items():
        path = ROOT / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stdout.write(f"changed: {name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
