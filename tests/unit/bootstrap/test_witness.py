"""What was seen of a file: damage shows although size and date are kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from perturbnet.bootstrap import witness
from perturbnet.bootstrap.witness import FileWitness, read_witness, require_unchanged, witness_file
from perturbnet.errors import ArtifactError, ArtifactMissing, DigestMismatch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"as it was")
    return path


def test_an_untouched_file_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = witness_file(file)
    monkeypatch.setattr(witness, "sha256_file", lambda _: pytest.fail("it was read"))
    require_unchanged(seen)
    with pytest.raises(pytest.fail.Exception):
        require_unchanged(seen, paranoid=True)


def test_damage_with_size_and_date_kept_is_named(file: Path) -> None:
    seen = witness_file(file)
    file.write_bytes(b"as it isn")
    os.utime(file, ns=(seen.mtime_ns, seen.mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (seen.size, seen.mtime_ns)
    with pytest.raises(DigestMismatch, match=seen.sha256):
        require_unchanged(seen)


def test_a_copy_is_read_again_and_right(file: Path) -> None:
    seen = witness_file(file)
    shutil.copy2(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    require_unchanged(seen)


def test_gone_and_cut_short_are_named(file: Path) -> None:
    seen = witness_file(file)
    file.write_bytes(b"as")
    with pytest.raises(DigestMismatch, match="expected 9 bytes, got 2 bytes"):
        require_unchanged(seen)
    file.unlink()
    with pytest.raises(ArtifactMissing, match="is gone"):
        require_unchanged(seen)
    with pytest.raises(ArtifactMissing):
        witness_file(file)


def test_a_file_that_changes_while_it_is_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(path: Path) -> str:
        path.write_bytes(b"quite another")
        return "0" * 64

    monkeypatch.setattr(witness, "sha256_file", meanwhile)
    with pytest.raises(ArtifactError, match="changed while"):
        witness_file(file)


def test_it_is_read_back_and_anything_else_is_refused(file: Path) -> None:
    seen = witness_file(file)
    assert read_witness(seen.to_json(), "here") == seen
    broken: list[object] = [
        None,
        [],
        {},
        {**seen.to_json(), "size": "9"},
        {**seen.to_json(), "inode": True},
        {**seen.to_json(), "more": 1},
    ]
    for stated in broken:
        with pytest.raises(ArtifactError, match="here"):
            read_witness(stated, "here")
    assert isinstance(seen, FileWitness)
