"""Write both locks, `nix/python.lock` and `requirements.lock`, from one `uv lock` (docs/adr/0005).

Rules
- No committed file names a package registry. `nix/python.lock` is uv's own lock with the index's address
  replaced by `@index@` and the place of the files by `@files@`; restoring both is exact, and checked before
  they are written. `requirements.lock` holds names, versions, markers and SHA-256, and no address at all.
- Versions stay where they are unless `--upgrade` is given or pyproject.toml asks for others: the lock that
  is committed is restored first and uv starts from it. So running this twice changes nothing.
- The addresses are this machine's: read from a throw-away lock of one small package, never written down.

Source: uv's lock format, version 1; PEP 503 and PEP 691 for what an index is; pip's hash-checking mode.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = "@index@"
FILES = "@files@"
HEADER = "# Every package, version and SHA-256. Written by `make lock` together with nix/python.lock.\n"
_REGISTRY = re.compile(r'registry = "([^"]+)"')
_URL = re.compile(r'\burl = "([^"]+)"')
# The public layout: a BLAKE2b digest cut after one byte and after two, then the file's name.
_FILE = re.compile(r"(?P<prefix>.+)/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+")
_PROBE = """\
[project]
name = "probe"
version = "0"
requires-python = ">=3.11"
dependencies = ["iniconfig"]
"""


class LockProblem(Exception):
    """A lock that cannot be written without an address, or a uv that did not succeed."""


@dataclass(frozen=True)
class Prefixes:
    """Where packages come from: the index's address, and what stands before each file's digest path."""

    index: str
    files: str


def prefixes_of(text: str) -> Prefixes:
    """Read the two addresses out of a uv.lock.

    Raises:
        LockProblem: none or several registries, or a file that is not laid out as the public index does it.

    """
    return Prefixes(
        index=_only({match[1] for match in _REGISTRY.finditer(text)}, "registry"),
        files=_only({_file_prefix(match[1]) for match in _URL.finditer(text)}, "place of files"),
    )


def mask(text: str, prefixes: Prefixes) -> str:
    """Replace both addresses by their placeholders.

    Raises:
        LockProblem: a placeholder is in the text already, or an address is left.

    """
    for placeholder in (INDEX, FILES):
        if placeholder in text:
            raise LockProblem(f"the lock holds {placeholder} already")
    masked = text.replace(f'"{prefixes.index}"', f'"{INDEX}"').replace(f'"{prefixes.files}/', f'"{FILES}/')
    left = re.search(r'"[^"]*://[^"]*"', masked)
    if left:
        raise LockProblem(f"the lock would name the address {left[0]}; expected only {prefixes}")
    return masked


def restore(text: str, prefixes: Prefixes) -> str:
    """Put the addresses back: the inverse of `mask`."""
    return text.replace(f'"{INDEX}"', f'"{prefixes.index}"').replace(f'"{FILES}/', f'"{prefixes.files}/')


def requirements(exported: str) -> str:
    """Return what `uv export` printed, under our header, without its comments.

    Raises:
        LockProblem: a line names an address, or asks for an index.

    """
    lines = [line for line in exported.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in lines:
        if "://" in line or line.startswith("-"):
            raise LockProblem(
                f"requirements.lock would hold {line!r}; expected names, versions and digests only"
            )
    return HEADER + "\n".join(lines) + "\n"


def write_locks(root: Path, uv: str, *, upgrade: bool) -> list[str]:
    """Lock, and write both files. Returns the names of those that changed.

    Raises:
        LockProblem: see `prefixes_of`, `mask`, `requirements`; or uv failed.

    """
    nix_lock, uv_lock = root / "nix" / "python.lock", root / "uv.lock"
    if nix_lock.exists():
        uv_lock.write_text(restore(nix_lock.read_text(), _probe(uv)))
    _run([uv, "lock", "--quiet", *(["--upgrade"] if upgrade else [])], root)
    text = uv_lock.read_text()
    prefixes = prefixes_of(text)
    masked = mask(text, prefixes)
    if restore(masked, prefixes) != text:
        raise LockProblem("the placeholders do not restore to the lock they came from")
    # uv.lock stands, so `--frozen` exports exactly what was masked.
    shape = [
        "--all-extras",
        "--no-emit-project",
        "--no-header",
        "--no-annotate",
        "--format",
        "requirements-txt",
    ]
    exported = _run([uv, "export", "--frozen", "--quiet", *shape], root)
    written = {nix_lock: masked, root / "requirements.lock": requirements(exported)}
    return [path.relative_to(root).as_posix() for path, new in written.items() if _replace(path, new)]


def _probe(uv: str) -> Prefixes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(_PROBE)
        _run([uv, "lock", "--quiet"], Path(folder))
        return prefixes_of((Path(folder) / "uv.lock").read_text())


def _file_prefix(url: str) -> str:
    match = _FILE.fullmatch(url)
    if not match:
        raise LockProblem(
            f"{url} is not laid out as <place>/aa/bb/<60 hex digits>/<file>: lock against such an index"
        )
    return match["prefix"]


def _only(found: set[str], what: str) -> str:
    if len(found) != 1:
        raise LockProblem(f"expected one {what}, got {len(found)}: {', '.join(sorted(found)) or 'none'}")
    return found.pop()


def _replace(path: Path, new: str) -> bool:
    if path.exists() and path.read_text() == new:
        return False
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(new)
    partial.replace(path)
    return True


def _run(command: list[str], folder: Path) -> str:
    # Under `make`, VIRTUAL_ENV may name another environment; uv then warns about one it does not use.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LockProblem(f"`{' '.join(command[:2])}` failed:\n{done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """Parse the command line and report in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows"
    )
    parser.add_argument("--uv", default=str(Path(sys.executable).with_name("uv")), help="the uv to run")
    options = parser.parse_args()
    try:
        changed = write_locks(ROOT, options.uv, upgrade=options.upgrade)
    except (LockProblem, OSError) as problem:
        print(f"lock: {problem}", file=sys.stderr)
        return 2
    print(f"changed: {', '.join(changed)}" if changed else "both locks are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
