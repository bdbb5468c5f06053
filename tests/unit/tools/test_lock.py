"""Both locks without an address: masking is exact; what would leak is refused before anything is written."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import lock
from tools.lock import LockProblem, Prefixes, mask, prefixes_of, restore

MASKED = (lock.ROOT / "nix" / "python.lock").read_text()
HERE = Prefixes("https://index.example/simple", "https://files.example/packages")
DIGEST = "ab/cd/" + "0" * 60


def uv_lock(index: str = HERE.index, files: str = HERE.files) -> str:
    return (
        'version = 1\n\n[[package]]\nname = "one"\nversion = "1.0"\n'
        f'source = {{ registry = "{index}" }}\n'
        f'sdist = {{ url = "{files}/{DIGEST}/one-1.0.tar.gz", hash = "sha256:00" }}\n'
    )


class TestMasking:
    def test_the_committed_lock_is_restored_and_masked_exactly(self) -> None:
        restored = restore(MASKED, HERE)
        assert lock.INDEX not in restored
        assert lock.FILES not in restored
        assert prefixes_of(restored) == HERE
        assert mask(restored, HERE) == MASKED

    @given(
        st.from_regex(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[a-z+]+){0,3}", fullmatch=True),
        st.from_regex(r"https?://[a-z0-9.-]+(/[a-z+]+){0,3}", fullmatch=True),
    )
    def test_any_two_addresses_come_back(self, index: str, files: str) -> None:
        text = uv_lock(index, files)
        prefixes = prefixes_of(text)
        assert prefixes == Prefixes(index, files)
        masked = mask(text, prefixes)
        assert "://" not in masked
        assert restore(masked, prefixes) == text

    def test_an_address_that_is_left_is_refused(self) -> None:
        text = uv_lock() + 'source = { git = "https://elsewhere.example/x" }\n'
        with pytest.raises(LockProblem, match=r"elsewhere\.example"):
            mask(text, HERE)

    def test_a_placeholder_that_is_there_already_is_refused(self) -> None:
        with pytest.raises(LockProblem, match="holds @index@ already"):
            mask(uv_lock() + '# "@index@"\n', HERE)

    def test_two_registries_are_refused(self) -> None:
        with pytest.raises(LockProblem, match="expected one registry, got 2"):
            prefixes_of(uv_lock() + uv_lock("https://other.example/simple"))

    def test_an_index_with_another_layout_is_refused(self) -> None:
        text = uv_lock().replace(DIGEST, "+f/0a1")
        with pytest.raises(LockProblem, match="not laid out as"):
            prefixes_of(text)


class TestRequirements:
    def test_comments_go_and_the_rest_stays(self) -> None:
        exported = "# made by uv\none==1.0 \\\n    --hash=sha256:00\n    # via two\n"
        assert lock.requirements(exported) == lock.HEADER + "one==1.0 \\\n    --hash=sha256:00\n"

    @pytest.mark.parametrize(
        "line", ["--index-url https://index.example/simple", "-e .", "one @ https://files.example/one.whl"]
    )
    def test_an_address_or_an_option_is_refused(self, line: str) -> None:
        with pytest.raises(LockProblem, match="names, versions and digests only"):
            lock.requirements(f"one==1.0\n{line}\n")


class TestWriting:
    def test_once_writes_both_and_twice_changes_nothing(self, tmp_path: Path) -> None:
        uv = fake_uv(tmp_path, uv_lock())
        root = tmp_path / "project"
        root.mkdir()
        assert lock.write_locks(root, uv, upgrade=False) == ["nix/python.lock", "requirements.lock"]
        assert "://" not in (root / "nix" / "python.lock").read_text()
        assert (root / "requirements.lock").read_text() == lock.HEADER + "one==1.0 --hash=sha256:00\n"
        assert lock.write_locks(root, uv, upgrade=False) == []

    def test_what_would_leak_leaves_the_old_locks_alone(self, tmp_path: Path) -> None:
        root = tmp_path / "project"
        root.mkdir()
        lock.write_locks(root, fake_uv(tmp_path, uv_lock()), upgrade=False)
        before = {path: path.read_bytes() for path in root.rglob("*.lock") if path.name != "uv.lock"}
        leaking = fake_uv(tmp_path, uv_lock() + 'source = { git = "https://elsewhere.example/x" }\n')
        with pytest.raises(LockProblem):
            lock.write_locks(root, leaking, upgrade=False)
        assert {path: path.read_bytes() for path in before} == before

    def test_uv_in_its_own_words_when_it_fails(self, tmp_path: Path) -> None:
        uv = script(tmp_path, "echo 'no such package: one' >&2; exit 1")
        with pytest.raises(LockProblem, match=r"uv lock` failed:\nno such package: one"):
            lock.write_locks(tmp_path, uv, upgrade=False)

    @pytest.mark.network
    def test_the_real_one_changes_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "nix").mkdir()
        for name in ("pyproject.toml", "requirements.lock", "nix/python.lock"):
            shutil.copy(lock.ROOT / name, tmp_path / name)
        uv = shutil.which("uv", path=str(lock.ROOT / ".venv" / "bin"))
        assert uv is not None
        assert lock.write_locks(tmp_path, uv, upgrade=False) == []


def fake_uv(folder: Path, text: str) -> str:
    """A uv that always locks to `text`, in the project as in the probe."""
    (folder / "canned.lock").write_text(text)
    lines = (
        f'if [ "$1" = lock ]; then cat "{folder}/canned.lock" > uv.lock; exit; fi\n'
        'printf "one==1.0 --hash=sha256:00\\n"'
    )
    return script(folder, lines)


def script(folder: Path, lines: str) -> str:
    path = folder / "uv"
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
