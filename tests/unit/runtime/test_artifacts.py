"""Pinned files and durable writing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from perturbnet.errors import ArtifactMissing, DigestMismatch
from perturbnet.runtime.artifacts import Pin, replace_durably, sha256_file, verify_file, write_durably

DATA = b"weights" * 300_000
PIN = Pin("weights", hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(DATA)
    return path


def test_digest_of_a_file_longer_than_a_piece(file: Path) -> None:
    assert sha256_file(file) == PIN.sha256


def test_the_pinned_file_is_accepted(file: Path) -> None:
    assert verify_file(file, PIN) == file


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing) as caught:
        verify_file(tmp_path / "none", PIN, hint="run this")
    assert "run this" in caught.value.diagnostics()


def test_a_truncated_file_is_refused(file: Path) -> None:
    file.write_bytes(DATA[:-1])
    with pytest.raises(DigestMismatch, match=f"expected {len(DATA)} bytes, got {len(DATA) - 1} bytes"):
        verify_file(file, PIN)


def test_a_changed_byte_is_refused(file: Path) -> None:
    file.write_bytes(b"W" + DATA[1:])
    with pytest.raises(DigestMismatch, match=PIN.sha256):
        verify_file(file, PIN)


def test_written_bytes_replace_the_old_ones(file: Path) -> None:
    write_durably(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(file.parent) == [file.name]


def test_a_file_has_the_mode_asked_for(file: Path) -> None:
    write_durably(file, b"public")
    assert file.stat().st_mode & 0o777 == 0o644
    write_durably(file, b"secret", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_failure_leaves_the_old_bytes_and_no_litter(file: Path) -> None:
    def fail(target: BinaryIO) -> None:
        target.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_durably(file, fail)
    assert file.read_bytes() == DATA
    assert os.listdir(file.parent) == [file.name]


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        real_fsync(handle)

    def replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_durably(file, b"new")
    assert events == ["file", "rename", "folder"]
