r"""Signed notes: a text and the lines of who signed it.

Rules (C2SP signed-note, tlog-cosignature)
- A note is UTF-8 text that ends in a newline, an empty line, then lines
  `— <name> base64(key id || signature)`. No control character but the newline. The text ends before the last
  empty line.
- A key is its name, its kind and its 32 bytes; its id is SHA-256(name || "\n" || kind || bytes)[:4]. Names
  are not empty and hold neither a space nor a plus.
- Lines of unknown keys are ignored. A line of a known key that does not verify spoils the whole note; a note
  that no known key signed is refused.
- Kind 1 signs the text (Ed25519, RFC 8032). Kind 4 is a witness: it signs `cosignature/v1`, the time and the
  text, and the time, in seconds since 1970, stands before the signature.
- A key on paper is `<name>+<id>+base64(kind || bytes)`; a private one begins with `PRIVATE+KEY+` (the form of
  Go's sumdb/note).
- A note comes from strangers: its length and the number of its lines are capped.

Source: c2sp.org/signed-note, c2sp.org/tlog-cosignature; golang.org/x/mod/sumdb/note (key files).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from perturbnet.errors import NoteError

MAX_NOTE_BYTES = 1 << 18
MAX_SIGNATURES = 100
KEY_BYTES = 32
SIGNATURE_BYTES = 64
_PREFIX = "— "
_PRIVATE = "PRIVATE+KEY+"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_ID = re.compile(r"[0-9a-f]{8}")
_TIME_BYTES = 8


class KeyKind(IntEnum):
    """What a key signs."""

    NOTE = 1
    COSIGNATURE = 4


@dataclass(frozen=True)
class VerifierKey:
    """A public key under a name: 32 bytes, RFC 8032."""

    name: str
    public: bytes
    kind: KeyKind = KeyKind.NOTE

    def __post_init__(self) -> None:
        """Refuse a name that no note could carry, and a key of another length."""
        if not is_name(self.name):
            raise NoteError(f"the key name {self.name[:80]!r} is empty or holds a space or a plus")
        if len(self.public) != KEY_BYTES:
            raise NoteError(f"the key of {self.name} has {len(self.public)} bytes, expected {KEY_BYTES}")

    @property
    def id(self) -> bytes:
        """The 4 bytes that stand before the key's signatures."""
        return _key_id(self.name, self.kind, self.public)

    def encode(self) -> str:
        """The key on paper."""
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    def accepts(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (what follows the key's id) is this key's over `text`."""
        message = text.encode()
        if self.kind is KeyKind.COSIGNATURE:
            time_s = int.from_bytes(signature[:_TIME_BYTES], "big")
            message, signature = _cosigned(text, time_s), signature[_TIME_BYTES:]
        return self.accepts_bytes(message, signature)

    def accepts_bytes(self, message: bytes, signature: bytes) -> bool:
        """Whether the 64 bytes `signature` are this key's over exactly `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key under a name. Its text is a secret."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> SigningKey:
        """The key of 32 secret bytes."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public(self) -> bytes:
        """The 32 public bytes."""
        return self.private.public_key().public_bytes_raw()

    def verifier(self, kind: KeyKind = KeyKind.NOTE) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self.public, kind)

    def sign(self, text: str) -> Signature:
        """Sign a note's text; the same text gives the same bytes."""
        return Signature(self.name, self.verifier().id, self.private.sign(text.encode()))

    def cosign(self, text: str, time_s: int) -> Signature:
        """State as a witness that `text` was seen at `time_s`, seconds since 1970."""
        signature = time_s.to_bytes(_TIME_BYTES, "big") + self.private.sign(_cosigned(text, time_s))
        return Signature(self.name, self.verifier(KeyKind.COSIGNATURE).id, signature)

    def encode(self) -> str:
        """The private key on paper."""
        data = _base64(bytes([KeyKind.NOTE]) + self.private.private_bytes_raw())
        return f"{_PRIVATE}{self.name}+{self.verifier().id.hex()}+{data}"


@dataclass(frozen=True)
class Signature:
    """One line below a note; `data` follows the key's id."""

    name: str
    key_id: bytes
    data: bytes

    def encode(self) -> str:
        """The line, with its newline."""
        return f"{_PREFIX}{self.name} {_base64(self.key_id + self.data)}\n"


@dataclass(frozen=True)
class Note:
    """A text and its signature lines, none of them verified."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note as it travels."""
        return (self.text + "\n" + "".join(line.encode() for line in self.signatures)).encode()

    def signed_by(self, *signatures: Signature) -> Note:
        """The note with more lines; a line of a key that signed before replaces the old one."""
        new = {(line.name, line.key_id): line for line in (*self.signatures, *signatures)}
        return Note(self.text, tuple(new.values()))

    def verify(self, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """The known keys that signed, in the order of the lines.

        Raises:
            NoteError: none did, or the line of a known key is not its signature.

        """
        known = {(key.name, key.id): key for key in keys}
        found = []
        for line in self.signatures:
            key = known.get((line.name, line.key_id))
            if key is None:
                continue
            if not key.accepts(self.text, line.data):
                raise NoteError(f"the signature of {line.name} ({line.key_id.hex()}) is not over this text")
            if key not in found:
                found.append(key)
        if not found:
            wanted = ", ".join(key.encode() for key in known.values()) or "no key"
            raise NoteError(f"no known key signed the note; known: {wanted}")
        return found


def parse_note(data: bytes) -> Note:
    """Read a note from a stranger.

    Raises:
        NoteError: too long, not UTF-8, a control character, no signature, or a line of another form.

    """
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"a note of {len(data)} bytes; at most {MAX_NOTE_BYTES} are allowed")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise NoteError(f"a note that is not UTF-8 at byte {error.start}") from None
    if _CONTROL.search(whole):
        raise NoteError("a note with a control character")
    text, gap, lines = whole.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise NoteError("a note without an empty line and signatures below it")
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise NoteError(f"a note with {len(signatures)} signatures; at most {MAX_SIGNATURES} are allowed")
    return Note(text + "\n", tuple(_parse_line(line) for line in signatures))


def parse_verifier_key(text: str) -> VerifierKey:
    """Read a public key on paper.

    Raises:
        NoteError: another form, another kind than 1 or 4, or an id that is not the key's.

    """
    name, identifier, kind, public = _parse_key(text)
    key = VerifierKey(name, public, kind)
    if key.id.hex() != identifier:
        raise NoteError(f"the key of {name} has the id {key.id.hex()}, not {identifier}")
    return key


def parse_signing_key(text: str) -> SigningKey:
    """Read a private key on paper. An error never quotes it.

    Raises:
        NoteError: another form or kind, or an id that is not the key's.

    """
    if not text.startswith(_PRIVATE):
        raise NoteError(f"a private key begins with {_PRIVATE}")
    name, identifier, kind, seed = _parse_key(text.removeprefix(_PRIVATE))
    if len(seed) != KEY_BYTES:
        raise NoteError(f"the private key of {name} has {len(seed)} bytes, expected {KEY_BYTES}")
    key = SigningKey.from_seed(name, seed)
    if kind is not KeyKind.NOTE or key.verifier().id.hex() != identifier:
        raise NoteError(f"the private key of {name} has not the id {identifier}")
    return key


def cosigned_at(signature: Signature) -> int:
    """When a witness signed, in seconds since 1970; attested by it."""
    return int.from_bytes(signature.data[:_TIME_BYTES], "big")


def is_name(name: str) -> bool:
    """Whether a key may be called so."""
    return bool(name) and "+" not in name and not any(character.isspace() for character in name)


def decode_base64(text: str) -> bytes:
    """Standard base64 of which there is one text per value.

    Raises:
        ValueError: another character or length, or unused bits that are not 0.

    """
    data = base64.b64decode(text, validate=True)
    if _base64(data) != text:
        raise ValueError("re-encoding gives another text")
    return data


def _parse_line(line: str) -> Signature:
    name, _, text = line.removeprefix(_PREFIX).partition(" ")
    try:
        data = decode_base64(text)
    except ValueError:
        data = b""
    if not line.startswith(_PREFIX) or not is_name(name) or len(data) < 5:
        raise NoteError(f"a signature line of another form: {line[:80]!r}")
    return Signature(name, data[:4], data[4:])


def _parse_key(text: str) -> tuple[str, str, KeyKind, bytes]:
    name, _, rest = text.partition("+")
    identifier, _, encoded = rest.partition("+")
    try:
        data = decode_base64(encoded)
        kind = KeyKind(data[0])
    except (ValueError, IndexError):
        raise NoteError(
            "a key has the form <name>+<id>+<base64 of its kind, 1 or 4, and its bytes>"
        ) from None
    if not is_name(name) or not _ID.fullmatch(identifier):
        raise NoteError("a key has the form <name>+<8 hex digits>+<base64>")
    return name, identifier, kind, data[1:]


def _key_id(name: str, kind: KeyKind, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
