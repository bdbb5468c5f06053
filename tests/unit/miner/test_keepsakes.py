"""What a miner keeps: whole lines, durably, within its cap; and a full disk costs no answer."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest

from perturbnet.miner.keepsakes import Keepsakes
from perturbnet.transport import SignedMessage


def message(number: int) -> SignedMessage:
    return SignedMessage("/Acknowledgement", {"x-bittensor-nonce": str(number)}, b"{}")


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_acknowledgements_are_lines_in_their_order(tmp_path: Path) -> None:
    keepsakes = Keepsakes(tmp_path / "state")
    for number in range(5):
        keepsakes.keep_acknowledgement(message(number))
    assert lines(keepsakes.file) == [message(number).encode() for number in range(5)]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    keepsakes = Keepsakes(tmp_path)
    keepsakes.keep_acknowledgement(message(1))
    with keepsakes.file.open("ab") as file:
        file.write(b'{"body":')
    Keepsakes(tmp_path).keep_acknowledgement(message(2))
    assert lines(keepsakes.file) == [message(1).encode(), b'{"body":', message(2).encode()]


def test_a_full_file_makes_room_and_the_one_before_is_kept(tmp_path: Path) -> None:
    size = len(message(1).encode()) + 1
    keepsakes = Keepsakes(tmp_path, max_file_bytes=3 * size)
    for number in range(1, 9):
        keepsakes.keep_acknowledgement(message(number))
    older = tmp_path / "acknowledgements.1.jsonl"
    assert lines(older) == [message(number).encode() for number in (4, 5, 6)]
    assert lines(keepsakes.file) == [message(number).encode() for number in (7, 8)]


def test_bodies_are_kept_by_digest_up_to_a_number(tmp_path: Path) -> None:
    keepsakes = Keepsakes(tmp_path, max_bodies=3)
    bodies = [b"body %d" % number for number in range(5)]
    for body in bodies:
        keepsakes.keep_body(body)
    kept = sorted(path.name for path in keepsakes.bodies.folder.glob("??/*"))
    assert kept == sorted(hashlib.sha256(body).hexdigest() for body in bodies[-3:])


def test_an_acknowledgement_without_end_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keepsakes = Keepsakes(tmp_path)
    keepsakes.keep_acknowledgement(SignedMessage("/", {}, b"x" * 20_000))
    assert not keepsakes.file.exists()
    assert "was not kept" in caplog.text


def test_a_disk_that_is_full_is_logged_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    caplog.set_level(logging.ERROR)
    keepsakes = Keepsakes(tmp_path)
    monkeypatch.setattr("perturbnet.miner.keepsakes.os.fsync", full)
    keepsakes.keep_acknowledgement(message(1))
    keepsakes.keep_body(b"body")
    assert caplog.text.count("No space left on device") == 2
