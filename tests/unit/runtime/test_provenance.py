"""The environment's digest follows from what is installed, not from who installed it or where."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest
from click.testing import CliRunner

from perturbnet.cli import main
from perturbnet.errors import ArtifactMissing
from perturbnet.runtime import provenance
from perturbnet.runtime.provenance import compare_lock, describe_build, digest_files, find_lock, find_packages

FILES = ("pkg/a.py,sha256=AAAA,10", "pkg/b.so,sha256=BBBB,20")


def install(
    site: Path,
    name: str,
    version: str = "1",
    *,
    requires: tuple[str, ...] = (),
    extras: tuple[str, ...] = (),
    files: tuple[str, ...] = FILES,
    own: tuple[str, ...] = (),
) -> None:
    """A package as an installer leaves it; `own` are RECORD lines that only this installer writes."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    head = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}"]
    head += [f"Provides-Extra: {extra}" for extra in extras]
    (folder / "METADATA").write_text("\n".join(head + [f"Requires-Dist: {text}" for text in requires]) + "\n")
    (folder / "RECORD").write_text("\n".join([*files, f"{folder.name}/RECORD,,", *own]) + "\n")


def finder(site: Path) -> provenance.Finder:
    def find(name: str) -> Distribution:
        for found in Distribution.discover(name=name, path=[str(site)]):
            return found
        raise PackageNotFoundError(name)

    return find


def build_site(site: Path, *, own: tuple[str, ...] = (), files: tuple[str, ...] = FILES) -> Path:
    install(site, "perturbnet", requires=("one>=1", "tool ; extra == 'dev'"), extras=("dev",), own=own)
    install(site, "one", requires=("two[fast]", "other ; sys_platform == 'win32'"), own=own)
    install(site, "two", requires=("speed ; extra == 'fast'", "one"), extras=("fast",), files=files, own=own)
    install(site, "speed", own=own)
    install(site, "unrelated", own=own)
    return site


def test_what_is_needed_is_found_with_extras_and_markers_and_no_more(tmp_path: Path) -> None:
    assert set(find_packages(finder(build_site(tmp_path)))) == {"one", "two", "speed"}


def test_two_installers_give_one_digest(tmp_path: Path) -> None:
    uv = ("one-1.dist-info/INSTALLER,sha256=uv,2", "one-1.dist-info/REQUESTED,sha256=x,0")
    pip = (
        "pkg/__pycache__/a.cpython-311.pyc,,",
        "../../../bin/perturb,sha256=CCCC,300",
        "one-1.dist-info/direct_url.json,sha256=y,9",
    )
    first = describe_build(finder(build_site(tmp_path / "uv", own=uv)))
    second = describe_build(finder(build_site(tmp_path / "pip", own=pip, files=FILES[::-1])))
    assert first.digest == second.digest
    assert dict(first.packages) == {"one": "1", "speed": "1", "two": "1"}


@pytest.mark.parametrize(
    "files", [(*FILES[:1], "pkg/b.so,sha256=BBBC,20"), FILES[:1], (*FILES, "pkg/c.py,sha256=C,1")]
)
def test_another_file_is_another_digest(tmp_path: Path, files: tuple[str, ...]) -> None:
    first = describe_build(finder(build_site(tmp_path / "one")))
    second = describe_build(finder(build_site(tmp_path / "two", files=files)))
    assert first.digest != second.digest


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    install(tmp_path, "perturbnet", requires=("absent",))
    with pytest.raises(ArtifactMissing, match="absent"):
        find_packages(finder(tmp_path))


def test_the_lock_is_compared() -> None:
    lock = (
        "# made by\none==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:00\n"
        "Two.Words==2 \\\n    --hash=sha256:11\n"
    )
    assert compare_lock(lock, {"one": "1.0", "two-words": "2"}) == {}
    assert compare_lock(lock, {"one": "1.1", "three": "3"}) == {"one": ("1.0", "1.1"), "three": ("", "3")}


def test_this_environment_is_known_and_named_by_its_lock() -> None:
    build = describe_build()
    lock = find_lock()
    assert lock is not None
    assert {"torch", "bittensor", "numpy"} <= set(build.packages)
    assert "pytest" not in build.packages
    assert build.origin.startswith(("lock sha256:", "/nix/store/"))
    numpy = find_packages()["numpy"]
    assert digest_files(numpy) == digest_files(numpy)
    assert describe_build().digest == build.digest


def test_a_nix_environment_is_named_by_its_store_path(monkeypatch: pytest.MonkeyPatch) -> None:
    store = "/nix/store/" + "a" * 32 + "-perturb-env"
    monkeypatch.setattr(provenance.sys, "prefix", store)  # type: ignore[attr-defined]
    assert describe_build().origin == store


def test_the_command_prints_what_a_leaf_records() -> None:
    done = CliRunner().invoke(main, ["env", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {"build", "packages", "python", "cpu", "gpu", "driver", "torch"} <= set(found["recorded"])
    digest = CliRunner().invoke(main, ["env", "--digest"])
    assert digest.stdout.strip() == found["recorded"]["packages"]
    lines = CliRunner().invoke(main, ["env"]).stdout
    assert f"packages       {found['recorded']['packages']}" in lines


def test_check_fails_where_the_lock_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(provenance, "find_lock", lambda: lock)
    done = CliRunner().invoke(main, ["env", "--check"])
    assert done.exit_code == 1
    assert "the lock names 0.1" in done.stdout
    assert "numpy" in done.stderr
