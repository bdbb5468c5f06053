"""The kinds of leaves: what a validator says, for ever, in integers and strings.

Rules (design: ledger.md)
- A leaf is canonical JSON (RFC 8785): `{"kind": …, fields…}`; its hash is SHA-256(0x00 || bytes), RFC 6962's
  leaf hash.
- Every kind is one frozen dataclass below; a field of another type is refused on writing and on reading, a
  missing or an unknown one on reading. So nothing can be written that could not be read again.
- Fields only ever hold integers, strings and lists of them: no float is hashed as text.
- A leaf refers to another by its index in the log.
- A leaf has at most MAX_LEAF_BYTES: in a published log its length is an unsigned 16-bit number.
- Scores are parts per 10^9, times are milliseconds, epsilon and the rules' numbers are decimal text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from json.encoder import encode_basestring
from operator import call, itemgetter
from typing import Any, ClassVar, get_type_hints

from perturbnet import canonical, merkle
from perturbnet.errors import LedgerCorrupt, LedgerError

MAX_LEAF_BYTES = 65_535

_KINDS: dict[str, type[Leaf]] = {}


@dataclass(frozen=True)
class Leaf:
    """One entry of the log."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, *, kind: str) -> None:
        """Register the kind's name."""
        cls.kind = kind
        _KINDS[kind] = cls

    def encode(self) -> bytes:
        """The canonical bytes that are stored and hashed.

        Raises:
            LedgerError: a field is of another type than declared, or has no canonical form.

        """
        values = vars(self)
        form = _flat_form(self.kind)
        plain = form.encode(values) if form else None
        if plain is not None:
            return self._checked(plain)
        misfit = _misfit(type(self), values)
        if misfit:
            raise LedgerError(f"not recorded: {misfit}")
        try:
            data = canonical.encode({"kind": self.kind, **values})
        except canonical.NotCanonical as error:
            raise LedgerError(f"not recorded: a {self.kind} leaf: {error.message}") from error
        return self._checked(data)

    def _checked(self, data: bytes) -> bytes:
        """The bytes, if a published log can hold them."""
        if len(data) > MAX_LEAF_BYTES:
            raise LedgerError(
                f"not recorded: a {self.kind} leaf of {len(data)} bytes; {MAX_LEAF_BYTES} are allowed"
            )
        return data


@dataclass(frozen=True)
class GenesisLeaf(Leaf, kind="genesis"):
    """The first leaf: a hotkey lets an Ed25519 key sign this log; see transparency.delegation."""

    origin: str  # the log's name in checkpoints
    network: str
    netuid: int
    hotkey: str  # ss58
    key: str  # Ed25519, 32 bytes
    signature: str  # sr25519, the hotkey's
    created_ms: int  # wall time since 1970; attested


@dataclass(frozen=True)
class KeyLeaf(Leaf, kind="key"):
    """From here on another key signs, or another hotkey owns the log."""

    hotkey: str  # who owns the log from here on
    key: str
    previous: str  # the key that this one follows
    signature: str  # sr25519, of `hotkey`
    handover: str  # Ed25519, of `previous`; "" where that key is lost, which only the same hotkey may say


@dataclass(frozen=True)
class ConfigLeaf(Leaf, kind="config"):
    """What a run of the validator computes with; written when it changes. Later leaves refer to it."""

    validator: str  # hotkey, ss58
    netuid: int
    code_version: str
    model_name: str
    model_digest: str
    engine: str
    environment: dict[str, str]
    dataset: dict[str, str | int]  # repository, revision, split, rows, manifest_digest
    fingerprint: str  # the traversal's: SHA-256 of `dataset`
    protocol_fingerprint: str


@dataclass(frozen=True)
class RulesLeaf(Leaf, kind="rules"):
    """The network's rules from a block on: gates, weights, histories, selection, how challenges are made."""

    version: int
    activation_block: int
    gates: dict[str, str | int]  # see protocol.Rules
    history: dict[str, int | str]  # history_size, min_processed_count, duplicates, burn_uid ("" for none)
    selection: dict[str, int | str]  # k, exploration, group_by_coldkey, group_by_ip (0 or 1)
    challenges: dict[str, int]  # augment (0 or 1), max_attempts, max_body_bytes


@dataclass(frozen=True)
class EpochLeaf(Leaf, kind="epoch"):
    """A pass over the data set begins; commits to the key of every segment."""

    epoch: int
    fingerprint: str
    rows: int
    segment_draws: int
    commitments: list[str]
    reason: str  # first, finished, fingerprint_changed


@dataclass(frozen=True)
class SegmentLeaf(Leaf, kind="segment"):
    """A segment is over; its key is public."""

    epoch: int
    segment: int
    key: str


@dataclass(frozen=True)
class SkipLeaf(Leaf, kind="skip"):
    """A draw that gave no challenge: the row is unreadable, or no challenge can be built from it."""

    epoch: int
    draw: int
    row: int
    reason: str


@dataclass(frozen=True)
class MetagraphLeaf(Leaf, kind="metagraph"):
    """Who is registered, as the chain said; written when it changed."""

    block: int
    netuid: int
    neurons: list[list[int | str]]  # uid, hotkey, coldkey, permit (0 or 1), announced ip ("" for none), port


@dataclass(frozen=True)
class ChallengeLeaf(Leaf, kind="challenge"):
    """A challenge, before it is sent."""

    round: int
    config: int
    rules: int
    metagraph: int
    epoch: int
    draw: int
    row: int
    attempt: int
    block: int
    task_id: str
    nonce: str  # 32 random bytes, hex: no two challenges have the same hash
    epsilon: str
    freshness: dict[str, int | str]  # empty when switched off; see challenges.Freshness
    true_label: str
    true_index: int
    source_label: str
    clean_pixels: str
    clean_logits: str
    selection_seed: str
    asked: list[int]
    created_ms: int  # wall time since 1970; attested


@dataclass(frozen=True)
class ReceiptLeaf(Leaf, kind="receipt"):
    """What one miner answered, how it was judged and what it earned; "" and -1 where it never came so far."""

    challenge: int
    round: int
    block: int
    challenge_id: str
    uid: int
    hotkey: str
    nonce: str
    body: str  # SHA-256 of the response's body
    signature: str
    signed_pixels: str  # the pixel digest that the miner signed
    delta: str  # SHA-256 of the blob that turns the clean pixels into the miner's; see deltas
    response_ms: int
    reject: str
    adversarial_pixels: str
    label_before: str
    index_before: int
    label_after: str
    index_after: int
    logits_before: str
    logits_after: str
    linf_u8: int
    changed: int
    sum_sq: int
    ssim_ppb: int
    psnr_micro_db: int
    saturated: int
    score_ppb: int
    same_as: int  # lowest uid of the round with identical pixels, or -1


@dataclass(frozen=True)
class WeightsLeaf(Leaf, kind="weights"):
    """A weight vector, before it is submitted."""

    round: int
    block: int
    rules: int
    shares_ppb: list[list[int]]  # uid, parts per 10^9
    reason: str


@dataclass(frozen=True)
class SubmissionLeaf(Leaf, kind="submission"):
    """What became of a weight vector on chain."""

    weights: int
    block: int
    outcome: str  # set, committed, rejected, ambiguous, applied, absent
    detail: str


def decode_leaf(data: bytes) -> Leaf:
    """Read a leaf.

    Raises:
        LedgerCorrupt: not canonical, an unknown kind, or a field that is missing, unknown or of another type.

    """
    try:
        value = canonical.decode(data)
    except canonical.NotCanonical as error:
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


@dataclass(frozen=True)
class _FlatForm:
    """How a kind that holds nothing but numbers and texts is written, without the general encoder.

    Most leaves are receipts, and a validator writes a hundred at a time. The bytes are those of
    `canonical.encode`; whatever is not exactly an `int` or a `str` goes there.
    """

    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]  # the fields in canonical order
    types: tuple[type, ...]
    numbers: Callable[[tuple[Any, ...]], tuple[int, ...]]
    writers: tuple[Callable[[Any], str], ...]
    template: str

    def encode(self, fields: Mapping[str, Any]) -> bytes | None:
        """The canonical bytes; None for what only the general encoder can judge."""
        values = self.values(fields)
        if tuple(map(type, values)) != self.types:
            return None
        numbers = self.numbers(values)
        if max(numbers) > canonical.MAX_SAFE_INTEGER or min(numbers) < -canonical.MAX_SAFE_INTEGER:
            return None
        text = self.template % tuple(map(call, self.writers, values))
        try:
            return text.encode()
        except UnicodeEncodeError:
            return None


@cache
def _flat_form(kind: str) -> _FlatForm | None:
    """The form of a kind; None for one that holds lists or objects, or fewer than two numbers or fields."""
    hints = _hints(kind)
    names = sorted(hints)  # ASCII: the order of UTF-16 is this one
    numbers = [place for place, name in enumerate(names) if hints[name] is int]
    if len(numbers) < 2 or not all(hint in {int, str} for hint in hints.values()):
        return None
    parts = {name: f'"{name}":%s' for name in names} | {"kind": f'"kind":"{kind}"'}
    return _FlatForm(
        values=itemgetter(*names),
        types=tuple(hints[name] for name in names),
        numbers=itemgetter(*numbers),
        writers=tuple(int.__repr__ if hints[name] is int else encode_basestring for name in names),
        template="{" + ",".join(parts[name] for name in sorted(parts)) + "}",
    )


@cache
def _hints(name: str) -> dict[str, Any]:
    return {field: hint for field, hint in get_type_hints(_KINDS[name]).items() if field != "kind"}


def _misfit(kind: type[Leaf], values: Mapping[str, Any]) -> str:
    """What is wrong with the first field that is of another type than declared; empty when all fit."""
    for name, hint in _hints(kind.kind).items():
        if not _fits(values[name], hint):
            return f"{kind.kind} leaf: {name} is {values[name]!r}, expected {getattr(hint, '__name__', hint)}"
    return ""


def _fits(value: Any, hint: Any) -> bool:  # noqa: ANN401 - a JSON value and a type hint
    origin = getattr(hint, "__origin__", None)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, hint.__args__[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and _fits(item, hint.__args__[1]) for key, item in value.items()
        )
    return isinstance(value, hint) and not isinstance(value, bool)
