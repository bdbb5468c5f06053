"""The chain, as this project needs it: nine calls and the values they exchange. Integers only.

Rules
- A write that the runtime refuses raises `ChainRejected` with the runtime's own name for the reason; nothing
  happened.
- A write that ends in `ChainTimeout` or `ChainUnavailable` may have taken effect: read the chain before a
  retry (`reconcile_weights`).
- Weights travel as u16 with the largest at 65,535, as the runtime stores them; only their ratios carry
  meaning.

Source: pallets/subtensor and pallets/commitments of the subtensor repository; names of reasons are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

from perturbnet.errors import ChainRejected
from perturbnet.rules.subnet import Commitment, Metagraph
from perturbnet.wire.keys import Keypair

U16_MAX = 65535
RAO = 10**9  # in one token
CLOSE_DEADLINE_S = 2.0  # the longest a connection may take to close
MAX_COMMITMENT_FIELDS = 3
MAX_FIELD_BYTES = 128  # of one `Raw` field


@dataclass(frozen=True)
class Hyperparameters:
    """The subnet's rules that concern us. Periods are in blocks unless the name says otherwise."""

    tempo: int
    weights_rate_limit: int
    commit_reveal_enabled: bool
    reveal_period_epochs: int
    weights_version: int
    min_allowed_weights: int
    max_weight_limit_u16: int
    immunity_period: int
    serving_rate_limit: int
    max_uids: int
    max_validators: int
    activity_cutoff: int


@dataclass(frozen=True)
class Submission:
    """Weights the chain accepted: shown at once (`set`), or sealed until the reveal (`commit`)."""

    block: int
    mode: Literal["set", "commit"]
    reference: str


@dataclass(frozen=True)
class WeightsOnChain:
    """What the chain shows of one validator: its revealed row, and the blocks of its commits still sealed.

    `last_update` is the block of the newest set or commit (or of the registration), not of the reveal.
    """

    uid: int
    hotkey: str
    weights: tuple[tuple[int, int], ...]
    last_update: int
    pending_commits: tuple[int, ...]


class Chain(Protocol):
    """One subnet of one network."""

    @property
    def netuid(self) -> int:
        """The subnet."""

    @property
    def network(self) -> str:
        """The network's name, or the endpoint it was given."""

    async def block(self) -> int:
        """The number of the newest block."""

    async def metagraph(self) -> Metagraph:
        """Every neuron, all read at one block."""

    async def hyperparameters(self) -> Hyperparameters:
        """The subnet's rules, all read at one block."""

    async def uid(self, hotkey: str) -> int | None:
        """The uid of `hotkey`, or None when it is not registered."""

    async def set_weights(self, keypair: Keypair, weights: Mapping[int, int], version_key: int) -> Submission:
        """Submit `{uid: u16}`, sealed when the subnet asks for commit-reveal.

        Zeros are dropped. A sealed vector with a stale version key or without a permit is accepted and
        dropped silently at its reveal: so does the runtime.

        Raises:
            ChainRejected: `SettingWeightsTooFast`, `CommittingWeightsTooFast`, `HotKeyNotRegisteredInSubNet`,
                `NeuronNoValidatorPermit`, `NotEnoughStakeToSetWeights`, `IncorrectWeightVersionKey`,
                `UidVecContainInvalidOne`, `UidsLengthExceedUidsInSubNet`, `WeightVecLengthIsLow`, ...

        """

    async def weights(self, uid: int) -> WeightsOnChain:
        """Read one validator's weights back.

        Raises:
            NotRegistered: there is no such uid.

        """

    async def serve(self, keypair: Keypair, ip: str, port: int) -> int:
        """Announce where the hotkey listens; returns the block.

        Raises:
            ChainRejected: `HotKeyNotRegisteredInNetwork`, `InvalidIpAddress`, `InvalidPort`,
                `ServingRateLimitExceeded`.

        """

    async def set_commitment(self, keypair: Keypair, *fields: bytes) -> int:
        """Replace the hotkey's commitment by up to three fields of at most 128 bytes; returns the block.

        Each call costs the sum of the fields, at least 100 bytes, of 3,100 an epoch.

        Raises:
            ChainRejected: `AccountNotAllowedCommit`, `TooManyFieldsInCommitmentInfo`, `SpaceLimitExceeded`.

        """

    async def commitment(self, hotkey: str) -> Commitment | None:
        """The newest commitment of `hotkey`, or None."""

    async def close(self) -> None:
        """Release the connection. Idempotent."""


def to_u16(shares: Mapping[int, int]) -> dict[int, int]:
    """Scale non-negative integer shares so that the largest is 65,535; zeros are dropped, uids ascend.

    Exact, ties to even: what the SDK's `normalize` computes with floats. A share under 1/131,070 of the
    largest becomes 0. Nothing positive gives an empty result.

    Raises:
        ChainRejected: a uid outside 0 to 65,535 (`UidVecContainInvalidOne`) or a negative share
            (`WeightVecLengthIsLow`).

    """
    for uid, share in shares.items():
        if not 0 <= uid <= U16_MAX:
            raise ChainRejected("UidVecContainInvalidOne", f"uid {uid}; 0 to {U16_MAX} are allowed")
        if share < 0:
            raise ChainRejected("WeightVecLengthIsLow", f"uid {uid} has the negative share {share}")
    top = max(shares.values(), default=0)
    if top == 0:
        return {}
    scaled = {uid: round(Fraction(shares[uid] * U16_MAX, top)) for uid in sorted(shares)}
    return {uid: value for uid, value in scaled.items() if value > 0}


def check_fields(fields: tuple[bytes, ...]) -> None:
    """Refuse what the runtime could not store.

    Raises:
        ChainRejected: no field or more than three (`TooManyFieldsInCommitmentInfo`), or one that is not 1 to
            128 bytes (`SpaceLimitExceeded`).

    """
    if not 1 <= len(fields) <= MAX_COMMITMENT_FIELDS:
        text = f"{len(fields)} fields; 1 to {MAX_COMMITMENT_FIELDS} are allowed"
        raise ChainRejected("TooManyFieldsInCommitmentInfo", text)
    for data in fields:
        if not 1 <= len(data) <= MAX_FIELD_BYTES:
            text = f"a field of {len(data)} bytes; 1 to {MAX_FIELD_BYTES} are allowed"
            raise ChainRejected("SpaceLimitExceeded", text)
