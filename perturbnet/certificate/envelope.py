"""A certificate's form: an in-toto Statement in a DSSE envelope, both canonical JSON.

Rules
- What is signed is DSSE's pre-authentication encoding of the payload's type and its bytes, not
  JSON as such.
- One signature: Ed25519, by the key that signs the log. Its key id is the key's name and id as in the log's
  signed notes, `<origin>+<8 hex digits>`; it says where to look and is not believed.
- The envelope's digest names the certificate: there is one encoding of it, so a file in another form is
  refused. A newline at the end is allowed.
- A certificate comes from strangers: its length is capped, and what it holds is checked type by type.

Source: github.com/secure-systems-lab/dsse (protocol.md, envelope.md), in-toto/attestation spec v1.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from perturbnet.certificate.predicate import PREDICATE_TYPE, VERSION, Predicate
from perturbnet.errors import OutputError
from perturbnet.transparency.notes import SIGNATURE_BYTES, SigningKey, VerifierKey, decode_base64
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import sha256_hex

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_CERTIFICATE_BYTES = 1 << 22


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a statement is about: the model's artefact."""

    name: str
    digest: dict[str, str]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An in-toto Statement v1 with our predicate."""

    type: str = msgspec.field(name="_type")
    subject: list[Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: Predicate


@dataclass(frozen=True)
class Certificate:
    """A certificate that was read or issued: well-formed, its signature not looked at."""

    payload: bytes
    statement: Statement
    keyid: str
    signature: bytes

    @property
    def predicate(self) -> Predicate:
        """What it says."""
        return self.statement.predicate

    @property
    def subject(self) -> str:
        """The model's digest, hex."""
        return self.statement.subject[0].digest["sha256"]

    @cached_property
    def data(self) -> bytes:
        """The envelope's bytes."""
        signature = {"keyid": self.keyid, "sig": _base64(self.signature)}
        envelope: canonical_json.Json = {
            "payload": _base64(self.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [signature],
        }
        return canonical_json.encode(envelope)

    @property
    def digest(self) -> str:
        """SHA-256 of the envelope, hex: what its leaf names."""
        return sha256_hex(self.data)

    @property
    def keyname(self) -> str:
        """The key that it names: what `keyid` has to be."""
        head = self.predicate.log
        return key_id(VerifierKey(head.origin, bytes.fromhex(head.key)))

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether `key` signed the payload."""
        return key.accepts_bytes(encode_pae(PAYLOAD_TYPE, self.payload), self.signature)


def sign_statement(statement: Statement, key: SigningKey) -> Certificate:
    """Put a statement in its envelope.

    Raises:
        OutputError: it is longer than a reader would take.

    """
    payload = canonical_json.encode(msgspec.to_builtins(statement))
    signature = key.private.sign(encode_pae(PAYLOAD_TYPE, payload))
    certificate = Certificate(payload, statement, key_id(key.verifier()), signature)
    if len(certificate.data) > MAX_CERTIFICATE_BYTES:
        raise OutputError(
            f"a certificate of {len(certificate.data)} bytes; {MAX_CERTIFICATE_BYTES} are allowed",
            hint="certify a narrower range: each configuration in it is listed",
        )
    return certificate


def read_certificate(data: bytes) -> Certificate:
    """Read a certificate of a stranger's.

    Raises:
        OutputError: too long, of another form or version, or a field that is missing, unknown or of
            another type.

    """
    if len(data) > MAX_CERTIFICATE_BYTES + 1:
        raise OutputError(f"{len(data)} bytes; a certificate has at most {MAX_CERTIFICATE_BYTES}")
    data = data.removesuffix(b"\n")
    payload, keyid, signature = _open(_decode(data, "the envelope"))
    certificate = Certificate(payload, _read_statement(payload), keyid, signature)
    if certificate.data != data:
        raise OutputError("the envelope is not in its one form: it holds something else beside its parts")
    return certificate


def encode_pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: VerifierKey) -> str:
    """How an envelope names a log's key."""
    return f"{key.name}+{key.id.hex()}"


def _open(envelope: Any) -> tuple[bytes, str, bytes]:
    match envelope:
        case {"payload": str(payload), "payloadType": str(kind), "signatures": [dict(signed)]}:
            keyid, sig = signed.get("keyid"), signed.get("sig")
        case _:
            raise OutputError("no DSSE envelope with a payload and one signature")
    if kind != PAYLOAD_TYPE:
        raise OutputError(f"an envelope of {kind[:80]!r}, expected {PAYLOAD_TYPE}")
    if not isinstance(keyid, str) or not isinstance(sig, str):
        raise OutputError("a signature is {keyid, sig}, both text")
    try:
        data, signature = decode_base64(payload), decode_base64(sig)
    except ValueError:
        raise OutputError("the envelope's payload or signature is not base64") from None
    if len(signature) != SIGNATURE_BYTES:
        raise OutputError(f"a signature of {len(signature)} bytes, expected {SIGNATURE_BYTES}")
    return data, keyid, signature


def _read_statement(payload: bytes) -> Statement:
    value = _decode(payload, "the statement")
    kind = value.get("_type") if isinstance(value, dict) else None
    predicate_type = value.get("predicateType") if isinstance(value, dict) else None
    if (kind, predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
        found = f"{str(kind)[:80]!r} about {str(predicate_type)[:80]!r}"
        raise OutputError(f"a statement {found}, expected {STATEMENT_TYPE} about {PREDICATE_TYPE}")
    try:
        statement = msgspec.convert(value, Statement)
        bytes.fromhex(statement.predicate.log.key)
        VerifierKey(statement.predicate.log.origin, bytes.fromhex(statement.predicate.log.key))
    except (msgspec.ValidationError, ValueError) as error:
        raise OutputError(f"no robustness certificate: {error}") from None
    if statement.predicate.version != VERSION:
        raise OutputError(
            f"a certificate of version {statement.predicate.version}; this program reads {VERSION}"
        )
    subjects = [sorted(subject.digest) for subject in statement.subject]
    if subjects != [["sha256"]]:
        raise OutputError("a certificate has one subject with a sha256 digest")
    return statement


def _decode(data: bytes, what: str) -> Any:
    try:
        return canonical_json.decode(data)
    except canonical_json.NotCanonical as error:
        raise OutputError(f"{what} is not canonical JSON: {error.message}") from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
