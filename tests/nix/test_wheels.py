"""nix/wheels.json says of every prebuilt package what it loads from others: held against the files in use.

In one site-packages a wheel finds its neighbours by itself, in the Nix store only if they are named. So every
library that a locked wheel asks for must be its own, manylinux', a named neighbour's or one it goes without.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.nix.conftest import ROOT

SOURCE: dict[str, Any] = json.loads((ROOT / "nix" / "wheels.json").read_text())
WHEELS: dict[str, dict[str, Any]] = SOURCE["packages"]
LOCKED: list[dict[str, Any]] = tomllib.loads((ROOT / "nix" / "python.lock").read_text())["package"]
# PEP 599, and what every Linux with glibc has. libgomp is GCC's, as libstdc++ is, and lies beside it.
MANYLINUX = {
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libgomp.so.1.0.0",
    "libm.so.6",
    "libnsl.so.1",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
    "libz.so.1",
}
_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")


@functools.cache
def libraries() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """For every installed locked package: the names of its own libraries, and the names they ask for."""
    locked = {package["name"] for package in LOCKED}
    found: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        files = [Path(str(file.locate())) for file in distribution.files or [] if _LIBRARY.search(str(file))]
        files = [file for file in files if is_elf(file)]
        if name in locked and files:
            dynamic = subprocess.run(
                ["readelf", "-dW", *map(str, files)], capture_output=True, text=True, check=True
            ).stdout
            own = {file.name for file in files} | set(re.findall(r"\(SONAME\).*\[(.+)\]", dynamic))
            found[name] = (frozenset(own), frozenset(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)))
    return found


def is_elf(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


@pytest.mark.needs("readelf")
class TestNeighbours:
    def test_every_library_that_is_asked_for_is_accounted_for(self) -> None:
        missing = {}
        for name, (own, needed) in libraries().items():
            wheel = WHEELS.get(name, {})
            neighbours = {lib for other in wheel.get("from", []) for lib in libraries()[other][0]}
            left = needed - own - MANYLINUX - neighbours - set(wheel.get("without", {}))
            if left:
                missing[name] = sorted(left)
        assert missing == {}, "name them in nix/wheels.json"

    def test_nothing_is_named_that_is_not_asked_for(self) -> None:
        for name, wheel in WHEELS.items():
            if name not in libraries():  # of another system than this
                continue
            own, needed = libraries()[name]
            for other in wheel.get("from", []):
                assert libraries()[other][0] & needed, (name, other)
            for library in wheel.get("without", {}):
                assert library in needed - own, (name, library)

    def test_the_scan_sees_what_is_there(self) -> None:
        own, needed = libraries()["torch"]
        assert "libtorch_cpu.so" in own
        assert "libc.so.6" in needed


def test_names_are_locked_and_every_exception_has_its_reason() -> None:
    names = {package["name"] for package in LOCKED}
    for name, wheel in WHEELS.items():
        assert {name, *wheel.get("from", []), *wheel.get("opens", [])} <= names
        assert all(reason for reason in wheel.get("without", {}).values())


def test_what_is_published_as_source_only_is_said_how_to_build() -> None:
    source_only = {package["name"] for package in LOCKED if "wheels" not in package} - {"perturbnet"}
    assert source_only == set(SOURCE["built"])
