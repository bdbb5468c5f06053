"""Which build this is: the Nix store path or the lock it came from, and every package it can import from.

Rules
- A build is named by what was installed, not by what should have been: the digest is over the files of every
  package that ours needs to run, as each wheel's own record lists them. Development tools do not count, nor
  does who installed it (uv, pip, Nix) or where; so two builds from one lock give one digest.
- What is installed and the lock beside the program are compared; a difference is named, never hidden.

Source: PyPA specifications "Recording installed projects" (RECORD), "Dependency specifiers", and "Core
metadata" (Requires-Dist).
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from perturbnet.errors import ArtifactMissing
from perturbnet.runtime.shipped import find_shipped
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex

PROJECT = "perturbnet"
LOCK_FILE = "requirements.lock"
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[^/]+")
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)\s*(?:;\s*([^\\]*?))?\s*\\?$", re.MULTILINE)

Finder = Callable[[str], Distribution]


@dataclass(frozen=True)
class Build:
    """One environment. `packages` gives name to version, `differing` name to (locked, installed or None)."""

    origin: str
    python: str
    machine: str
    packages: Mapping[str, str]
    differing: Mapping[str, tuple[str, str | None]]
    digest: str


def describe_build(find: Finder = distribution) -> Build:
    """Read the environment that runs this.

    Raises:
        ArtifactMissing: a package that ours needs is not installed.

    """
    found = find_packages(find)
    versions = {name: package.version for name, package in sorted(found.items())}
    contents = {name: digest_files(package) for name, package in found.items()}
    lock = find_lock()
    return Build(
        origin=_origin(lock),
        python=platform.python_version(),
        machine=platform.machine(),
        packages=versions,
        differing={} if lock is None else compare_lock(lock.read_text(encoding="utf-8"), versions),
        digest=_digest_build(versions, contents),
    )


@cache
def this_build() -> Build:
    """The environment that runs this process, read once; raises as `describe_build`."""
    return describe_build()


def find_packages(find: Finder = distribution) -> dict[str, Distribution]:
    """Every package that ours needs to run here, directly or not, without ours; by canonical name.

    Raises:
        ArtifactMissing: one of them is not installed.

    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(PROJECT, frozenset[str]())]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = find(name)
        except PackageNotFoundError:
            hint = "install what requirements.lock names: make test, or your package manager"
            raise ArtifactMissing(f"the package {name} is needed and not installed", hint=hint) from None
        found[name] = package
        waiting += _needed(package, extras)
    found.pop(PROJECT)
    return found


def digest_files(package: Distribution) -> str:
    """SHA-256 over the package's files as its RECORD names them, without metadata and scripts.

    A package without a RECORD (Debian's, say) is known by its version alone: the digest is of no files.
    """
    lines = sorted(
        f"{file.as_posix()} {file.hash.mode}={file.hash.value}"
        for file in package.files or ()
        if file.hash is not None and not file.parts[0].endswith(".dist-info") and ".." not in file.parts
    )
    return sha256_hex("\n".join(lines).encode())


def find_lock() -> Path | None:
    """The lock that lies beside the program: in a checkout, or under `share/perturb` of an installation."""
    return find_shipped(LOCK_FILE)


def compare_lock(lock: str, installed: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    """Packages that the lock names otherwise, or does not name at all (locked is then empty)."""
    locked: dict[str, set[str]] = {}
    for name, version, _ in _PINNED.findall(lock):
        locked.setdefault(canonicalize_name(name), set()).add(version)
    return {
        name: (", ".join(sorted(locked.get(name, ()))), version)
        for name, version in installed.items()
        if version not in locked.get(name, ())
    }


def _needed(package: Distribution, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    needed: list[tuple[str, frozenset[str]]] = []
    for text in package.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # an old package's own typing error; pip skips it too
            continue
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            needed.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return needed


def _origin(lock: Path | None) -> str:
    store = _STORE_PATH.match(str(Path(sys.prefix).resolve()))
    if store:
        return store[0]
    if lock is None:
        return "unknown: no lock lies beside the program"
    return f"lock sha256:{sha256_hex(lock.read_bytes())}"


def _digest_build(versions: Mapping[str, str], contents: Mapping[str, str]) -> str:
    described = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: {"version": versions[name], "files": contents[name]} for name in versions},
    }
    return canonical_json.digest(described)
