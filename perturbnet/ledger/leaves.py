"""The kinds of leaves: what a validator says, for ever, in integers and strings.

Rules (docs/ledger.md)
- A leaf is canonical JSON (RFC 8785): `{"kind": …, fields…}`; its hash is SHA-256(0x00 || bytes), RFC 6962's
  leaf hash.
- Every kind is one frozen struct below; a field of another type is refused on writing and on reading, a
  missing or an unknown one on reading. So nothing can be written that could not be read again.
- Fields only ever hold integers, strings and lists of them: no float is hashed as text.
- A leaf refers to another by its index in the log.
- A leaf has at most MAX_LEAF_BYTES: in a published log its length is an unsigned 16-bit number.
- Scores are parts per 10^9, times are milliseconds, epsilon and the rules' numbers are decimal text.

A log of a million leaves is read and written by msgspec, which checks every type and sorts the names. For
ASCII text its bytes are those of `canonical_json.encode`; whatever is not ASCII, or is refused, goes through
`canonical`, which also says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Union, get_type_hints

import msgspec

from perturbnet.errors import LedgerCorrupt, LedgerError
from perturbnet.ledger import merkle
from perturbnet.wire import canonical_json

MAX_LEAF_BYTES = 65_535
Int = Annotated[int, msgspec.Meta(ge=-canonical_json.MAX_SAFE_INTEGER, le=canonical_json.MAX_SAFE_INTEGER)]

_KINDS: dict[str, type[Leaf]] = {}
_ENCODER = msgspec.json.Encoder(order="sorted")


def _kind_of(class_name: str) -> str:
    return class_name.removesuffix("Leaf").lower()


class Leaf(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, tag_field="kind", tag=_kind_of):
    """One entry of the log."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Register the kind's name: the class's, without "Leaf"."""
        cls.kind = _kind_of(cls.__name__)
        _KINDS[cls.kind] = cls

    def encode(self) -> bytes:
        """The canonical bytes that are stored and hashed.

        Raises:
            LedgerError: a field is of another type than declared, or has no canonical form.

        """
        data = self._plain_form()
        if data is None:
            data = self._general_form()
        if len(data) > MAX_LEAF_BYTES:
            raise LedgerError(
                f"not recorded: a {self.kind} leaf of {len(data)} bytes; {MAX_LEAF_BYTES} are allowed"
            )
        return data

    def _plain_form(self) -> bytes | None:
        """The bytes of a leaf in ASCII that can be read again; None for what `canonical` has to judge."""
        try:
            data = _ENCODER.encode(self)
            return data if data.isascii() and _decoder(type(self)).decode(data) == self else None
        except (msgspec.MsgspecError, UnicodeError, TypeError):
            return None

    def _general_form(self) -> bytes:
        values = msgspec.structs.asdict(self)
        misfit = _misfit(type(self), values)
        if misfit:
            raise LedgerError(f"not recorded: {misfit}")
        try:
            return canonical_json.encode({"kind": self.kind, **values})
        except canonical_json.NotCanonical as error:
            raise LedgerError(f"not recorded: a {self.kind} leaf: {error.message}") from error


class GenesisLeaf(Leaf, frozen=True):
    """The first leaf: a hotkey lets an Ed25519 key sign this log; see transparency.delegation."""

    origin: str  # the log's name in checkpoints
    network: str
    netuid: Int
    hotkey: str  # ss58
    key: str  # Ed25519, 32 bytes
    signature: str  # sr25519, the hotkey's
    created_ms: Int  # wall time since 1970; attested


class KeyLeaf(Leaf, frozen=True):
    """From here on another key signs, or another hotkey owns the log."""

    hotkey: str  # who owns the log from here on
    key: str
    previous: str  # the key that this one follows
    signature: str  # sr25519, of `hotkey`
    handover: str  # Ed25519, of `previous`; "" where that key is lost, which only the same hotkey may say


class ConfigLeaf(Leaf, frozen=True):
    """What a run of the validator computes with; written when it changes. Later leaves refer to it."""

    validator: str  # hotkey, ss58
    netuid: Int
    code_version: str
    model_name: str
    model_digest: str
    engine: str
    environment: dict[str, str]
    dataset: dict[str, str | Int]  # repository, revision, split, rows, manifest_digest
    fingerprint: str  # the traversal's: SHA-256 of `dataset`
    protocol_fingerprint: str


class RulesLeaf(Leaf, frozen=True):
    """The network's rules from a block on: gates, weights, histories, selection, how challenges are made."""

    version: Int
    activation_block: Int
    gates: dict[str, str | Int]  # see protocol.Rules
    history: dict[str, Int | str]  # history_size, min_processed_count, duplicates, burn_uid ("" for none)
    selection: dict[str, Int | str]  # k, exploration, group_by_coldkey, group_by_ip (0 or 1)
    challenges: dict[str, Int]  # augment (form of freshness, 0: off), max_attempts, max_body_bytes


class EpochLeaf(Leaf, frozen=True):
    """A pass over the data set begins; commits to the key of every segment."""

    epoch: Int
    fingerprint: str
    rows: Int
    segment_draws: Int
    commitments: list[str]
    reason: str  # first, finished, fingerprint_changed


class SegmentLeaf(Leaf, frozen=True):
    """A segment is over; its key is public."""

    epoch: Int
    segment: Int
    key: str


class SkipLeaf(Leaf, frozen=True):
    """A draw that gave no challenge: the row is unreadable, or no challenge can be built from it."""

    epoch: Int
    draw: Int
    row: Int
    reason: str


class MetagraphLeaf(Leaf, frozen=True):
    """Who is registered, as the chain said; written when it changed."""

    block: Int
    netuid: Int
    neurons: list[list[Int | str]]  # uid, hotkey, coldkey, permit (0 or 1), announced ip ("" for none), port


class ChallengeLeaf(Leaf, frozen=True):
    """A challenge, before it is sent."""

    round: Int
    config: Int
    rules: Int
    metagraph: Int
    epoch: Int
    draw: Int
    row: Int
    attempt: Int
    block: Int
    task_id: str
    nonce: str  # 32 random bytes, hex: no two challenges have the same hash
    epsilon: str
    freshness: dict[str, Int | str]  # empty when switched off; see challenges.Freshness
    true_label: str
    true_index: Int
    source_label: str
    clean_pixels: str
    clean_logits: str
    selection_seed: str
    asked: list[Int]
    created_ms: Int  # wall time since 1970; attested


class ReceiptLeaf(Leaf, frozen=True):
    """What one miner answered, how it was judged and what it earned; "" and -1 where it never came so far."""

    challenge: Int
    round: Int
    block: Int
    challenge_id: str
    uid: Int
    hotkey: str
    nonce: str
    body: str  # SHA-256 of the response's body
    signature: str
    signed_pixels: str  # the pixel digest that the miner signed
    delta: str  # SHA-256 of the blob that turns the clean pixels into the miner's; see deltas
    response_ms: Int
    reject: str
    adversarial_pixels: str
    label_before: str
    index_before: Int
    label_after: str
    index_after: Int
    logits_before: str
    logits_after: str
    linf_u8: Int
    changed: Int
    sum_sq: Int
    ssim_ppb: Int
    psnr_micro_db: Int
    saturated: Int
    score_ppb: Int
    same_as: Int  # lowest uid of the round with identical pixels, or -1


class WeightsLeaf(Leaf, frozen=True):
    """A weight vector, before it is submitted."""

    round: Int
    block: Int
    rules: Int
    shares_ppb: list[list[Int]]  # uid, parts per 10^9
    reason: str


class SubmissionLeaf(Leaf, frozen=True):
    """What became of a weight vector on chain."""

    weights: Int
    block: Int
    outcome: str  # set, committed, rejected, ambiguous, applied, absent
    detail: str


class CertificateLeaf(Leaf, frozen=True):
    """A certificate was issued about leaves of this log; see outputs.certificate."""

    envelope: str  # SHA-256 of the signed envelope
    predicate: str  # the predicate's type
    subject: str  # the model's digest
    since: Int  # from this leaf
    until: Int  # to before this one
    statistics: str  # SHA-256 of the statistics
    key: str  # that signed: the log's own at this leaf


def decode_leaf(data: bytes) -> Leaf:
    """Read a leaf.

    Raises:
        LedgerCorrupt: not canonical, an unknown kind, or a field that is missing, unknown or of another type.

    """
    try:
        leaf = _any_decoder().decode(data)
        if data.isascii() and _ENCODER.encode(leaf) == data:
            return leaf
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # named below
    return _decode_any_text(data)


def _decode_any_text(data: bytes) -> Leaf:
    try:
        value = canonical_json.decode(data)
    except canonical_json.NotCanonical as error:
        raise LedgerCorrupt(f"a leaf is not canonical JSON: {error.message}") from None
    name = value.pop("kind", None) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(name, str) or name not in _KINDS:
        raise LedgerCorrupt(f"unknown kind of leaf {name!r}; known: {', '.join(_KINDS)}")
    kind = _KINDS[name]
    expected = set(_hints(name))
    if set(value) != expected:
        raise LedgerCorrupt(f"{name} leaf: expected the fields {sorted(expected)}, got {sorted(value)}")
    misfit = _misfit(kind, value)
    if misfit:
        raise LedgerCorrupt(misfit)
    return kind(**value)


def leaf_hash(data: bytes) -> str:
    """The hex hash of a leaf of these bytes: RFC 6962, section 2.1."""
    return merkle.leaf_hash(data).hex()


@cache
def _decoder(kind: type[Leaf]) -> msgspec.json.Decoder[Leaf]:
    return msgspec.json.Decoder(kind)


@cache
def _any_decoder() -> msgspec.json.Decoder[Leaf]:
    """A reader of every kind, which is told by its name."""
    return msgspec.json.Decoder(Union[tuple(_KINDS.values())])  # noqa: UP007 - the kinds are not written out


@cache
def _hints(name: str) -> dict[str, Any]:
    return {field: hint for field, hint in get_type_hints(_KINDS[name]).items() if field != "kind"}


def _misfit(kind: type[Leaf], values: Mapping[str, Any]) -> str:
    """What is wrong with the first field that is of another type than declared; empty when all fit."""
    for name, hint in _hints(kind.kind).items():
        if not _fits(values[name], hint):
            return f"{kind.kind} leaf: {name} is {values[name]!r}, expected {getattr(hint, '__name__', hint)}"
    return ""


def _fits(value: Any, hint: Any) -> bool:
    origin = getattr(hint, "__origin__", None)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, hint.__args__[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and _fits(item, hint.__args__[1]) for key, item in value.items()
        )
    return isinstance(value, hint) and not isinstance(value, bool)
