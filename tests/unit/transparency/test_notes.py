"""Notes: the examples of Go's sumdb/note and of C2SP, and every malformed note."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import NoteError
from perturbnet.transparency.checkpoints import Checkpoint, parse_checkpoint, sign_checkpoint
from perturbnet.transparency.notes import (
    MAX_SIGNATURES,
    KeyKind,
    Note,
    SigningKey,
    VerifierKey,
    cosigned_at,
    parse_note,
    parse_signing_key,
    parse_verifier_key,
)

# golang.org/x/mod/sumdb/note, its documentation's example: both keys, the text, and what they signed.
PETER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_PUBLIC = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgK"
    "vqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01"
    "oOTGwnWLox33WWd1RvMc+QQ=\n"
)
WHOLE = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode()
ZEROS = "A" * 43 + "="
# c2sp.org/tlog-cosignature, its example: a log's line and a witness's.
C2SP = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+"
    "ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE"
    "+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1"
    "nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()


def test_go_s_example() -> None:
    key = parse_signing_key(PETER)
    peter, enoch = parse_verifier_key(PETER_PUBLIC), parse_verifier_key(ENOCH_PUBLIC)
    assert (key.encode(), key.verifier(), peter.encode()) == (PETER, peter, PETER_PUBLIC)
    assert key.sign(TEXT).encode() == PETER_LINE
    note = parse_note(WHOLE)
    assert note.encode() == WHOLE
    assert note.text == TEXT
    assert note.verify([enoch, peter]) == [peter, enoch]
    assert note.verify([peter]) == [peter]


def test_c2sp_s_example_parses() -> None:
    note = parse_note(C2SP)
    assert note.encode() == C2SP
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert checkpoint.text() == note.text
    assert cosigned_at(note.signatures[1]) == 1679315147


def test_unknown_keys_are_ignored_known_ones_must_hold() -> None:
    peter, other = (
        parse_verifier_key(PETER_PUBLIC),
        SigningKey.from_seed("PeterNeumann", bytes(32)).verifier(),
    )
    with pytest.raises(NoteError, match="no known key signed the note"):
        parse_note(WHOLE).verify([other])
    with pytest.raises(NoteError, match="no known key signed the note; known: no key"):
        parse_note(WHOLE).verify([])
    forged = parse_note(WHOLE.replace(b"then you don", b"then I do n"))
    with pytest.raises(NoteError, match=r"signature of PeterNeumann \(c74f20a3\) is not over this text"):
        forged.verify([peter])
    spoiled = parse_note(WHOLE.replace(b"x08go/ZJ", b"x08go/ZK"))
    with pytest.raises(NoteError, match="is not over this text"):
        spoiled.verify([peter, parse_verifier_key(ENOCH_PUBLIC)])


def test_a_witness_signs_the_time_too() -> None:
    log, witness = SigningKey.from_seed("log", bytes(32)), SigningKey.from_seed("witness", b"\1" * 32)
    note = sign_checkpoint(Checkpoint("log", 3, bytes(32)), log)
    both = note.signed_by(witness.cosign(note.text, 1679315147))
    known = [log.verifier(), witness.verifier(KeyKind.COSIGNATURE)]
    assert parse_note(both.encode()).verify(known) == known
    assert cosigned_at(both.signatures[1]) == 1679315147
    assert parse_verifier_key(known[1].encode()) == known[1]
    line = both.signatures[1]
    later = Note(note.text, (type(line)(line.name, line.key_id, b"\1" + line.data[1:]),))
    with pytest.raises(NoteError, match="is not over this text"):
        later.verify(known)
    with pytest.raises(NoteError, match="no known key"):
        both.verify([witness.verifier()])


def test_a_key_that_signs_again_replaces_its_line() -> None:
    witness = SigningKey.from_seed("witness", bytes(32))
    note = Note(TEXT, ()).signed_by(witness.cosign(TEXT, 5)).signed_by(witness.cosign(TEXT, 6))
    assert [cosigned_at(line) for line in note.signatures] == [6]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "without an empty line"),
        (TEXT.encode(), "without an empty line"),
        (f"{TEXT}\n".encode(), "without an empty line"),
        (WHOLE[:-1], "without an empty line"),
        (b"\xff" + WHOLE, "not UTF-8 at byte 0"),
        (b"a\tb\n\n" + PETER_LINE.encode(), "control character"),
        (b"a\r\n\n" + PETER_LINE.encode(), "control character"),
        (f"{TEXT}\n{PETER_LINE}\n".encode(), "without an empty line|another form"),
        (f"{TEXT}\n{PETER_LINE[2:]}".encode(), "another form"),
        (f"{TEXT}\n— PeterNeumann\n".encode(), "another form"),
        (f"{TEXT}\n— Peter+Neumann AAAAAAAA\n".encode(), "another form"),
        (f"{TEXT}\n— Peter\u00a0Neumann AAAAAAAA\n".encode(), "another form"),
        (f"{TEXT}\n— PeterNeumann AAAA\n".encode(), "another form"),
        (f"{TEXT}\n— PeterNeumann AAAAAAA \n".encode(), "another form"),
        (f"{TEXT}\n— PeterNeumann x08go/ZJkv=\n".encode(), "another form"),
        (f"{TEXT}\n{PETER_LINE * (MAX_SIGNATURES + 1)}".encode(), "101 signatures; at most 100"),
        (b"a\n" * 200_000, "400000 bytes"),
    ],
)
def test_malformed_notes(data: bytes, said: str) -> None:
    with pytest.raises(NoteError, match=said):
        parse_note(data)


def test_sixteen_signatures_are_taken() -> None:
    assert len(parse_note(f"{TEXT}\n{PETER_LINE * 16}".encode()).signatures) == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        "a+00000000+",
        "+c74f20a3+ARpc",
        PETER_PUBLIC[:-4],
        PETER_PUBLIC.replace("+ARpc", "+Axpc"),
        PETER_PUBLIC.replace("c74f20a3", "c74f20a4"),
        PETER_PUBLIC.replace("c74f20a3", "C74F20A3"),
        "Peter Neumann+c74f20a3+ARpc",
    ],
)
def test_malformed_keys(text: str) -> None:
    with pytest.raises(NoteError):
        parse_verifier_key(text)
    with pytest.raises(NoteError):
        parse_signing_key(f"PRIVATE+KEY+{text}")


def test_an_error_never_quotes_a_private_key() -> None:
    for text in (PETER[:-4], PETER.replace("c74f20a3", "00000000"), PETER.removeprefix("PRIVATE+")):
        with pytest.raises(NoteError) as caught:
            parse_signing_key(text)
        assert "AYEKFALV" not in caught.value.diagnostics()


def test_a_key_s_name_can_stand_in_a_note() -> None:
    for name in ("", "a b", "a+b", "a\u2003b"):
        with pytest.raises(NoteError, match="key name"):
            VerifierKey(name, bytes(32))
    with pytest.raises(NoteError, match="31 bytes"):
        VerifierKey("a", bytes(31))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        "a\n1\n",
        "a\n1\nAAAA\n",
        f"a\n01\n{ZEROS}\n",
        f"a\n-1\n{ZEROS}\n",
        f"a\n1\n{ZEROS}",
        f"\n1\n{ZEROS}\n",
        f"a\n1\n{ZEROS}\n\n",
        "a\n1\n" + "A" * 42 + "B=\n",
        f"a\n9999999999999999\n{ZEROS}\n",
        f"a\n\u0661\n{ZEROS}\n",
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(text)


def test_extension_lines_are_kept() -> None:
    text = "a\n0\n" + "A" * 43 + "=\nmore\n"
    assert parse_checkpoint(text).extensions == ("more",)
    assert parse_checkpoint(text).text() == text


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda data: WHOLE[:150] + data + WHOLE[170:]))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    keys = [parse_verifier_key(PETER_PUBLIC), parse_verifier_key(ENOCH_PUBLIC)]
    try:
        note = parse_note(data)
        assert note.encode() == data
        note.verify(keys)
    except NoteError:
        return
    assert note.text == TEXT


@given(st.text(max_size=80))
def test_no_text_of_a_checkpoint_does_more_than_be_refused(text: str) -> None:
    with suppress(NoteError):
        assert parse_checkpoint(text).text() == text
