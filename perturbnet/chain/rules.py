"""The subnet's rules as pure functions: what a call is refused for, who may validate, who is replaced.

They are the runtime's (pallets/subtensor: `subnets/weights.rs`, `uids.rs`, `registration.rs`, `serving.rs`,
`coinbase/reveal_commits.rs`, `guards/check_weights.rs`; pallets/commitments: `lib.rs`), in the runtime's
order and with its names. Simplified: no balances or fees; emission is incentive by stake-weighted weights
plus dividends by stake, without bonds, and serves only to choose who is replaced; the weight limit is the
runtime's constant 65,535.

One addition, so that a local network need not wait an epoch for its first permit: until the first epoch has
run, each registration recomputes the permits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from perturbnet.chain.protocol import U16_MAX, Hyperparameters
from perturbnet.errors import ChainRejected, ConfigError
from perturbnet.wire.units import PPB

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNREVEALED_COMMITS = 10
MIN_COMMITMENT_COST_BYTES = 100
_MAX_VALUE = 2**53 - 1
_POSITIVE = frozenset({"tempo", "reveal_period_epochs", "max_uids"})


@dataclass(frozen=True)
class ChainRules:
    """The hyperparameters of a local subnet; defaults are the live runtime's. Periods are in blocks."""

    tempo: int = 360
    weights_rate_limit: int = 100
    commit_reveal_enabled: bool = True
    reveal_period_epochs: int = 1
    weights_version: int = 0
    min_allowed_weights: int = 1
    min_stake_rao: int = 0
    immunity_period: int = 4096
    min_non_immune_uids: int = 10
    max_uids: int = 256
    max_validators: int = 64
    activity_cutoff: int = 5000
    serving_rate_limit: int = 50
    commitment_bytes_per_epoch: int = 3100
    loopback_allowed: bool = True  # the live runtime refuses 127.0.0.1

    def __post_init__(self) -> None:
        """Refuse values no chain could have.

        Raises:
            ConfigError: a negative or absurd number, or one that must be positive.

        """
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default).__name__
            least = 1 if field.name in _POSITIVE else 0
            if type(value).__name__ != kind or not least <= int(value) <= _MAX_VALUE:
                raise ConfigError(field.name, value, f"{kind}, {least} to {_MAX_VALUE}")

    def hyperparameters(self) -> Hyperparameters:
        """The part of the rules that a chain tells."""
        names = {field.name for field in fields(Hyperparameters)} - {"max_weight_limit_u16"}
        return Hyperparameters(max_weight_limit_u16=U16_MAX, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class RegisteredHotkey:
    """A registered neuron as the rules see it."""

    uid: int
    hotkey: str
    coldkey: str
    stake_rao: int
    permit: bool
    last_update: int
    registered_block: int
    emission_ppb: int


Row = tuple[tuple[int, int], ...]  # (uid, u16) pairs


def epoch_of(block: int, tempo: int, netuid: int) -> int:
    """The subnet's epoch at `block`: epochs of tempo + 1 blocks, staggered by netuid (`get_epoch_index`)."""
    return (block + netuid + 1) // (tempo + 1)


def check_weights(
    rules: ChainRules, members: Sequence[RegisteredHotkey], sender: str, row: Row, version_key: int
) -> RegisteredHotkey:
    """Return the sender as a member, or refuse the row (`internal_set_weights`, but for the rate limit).

    Raises:
        ChainRejected: with the runtime's reason.

    """
    if len(row) > len(members):
        raise ChainRejected("UidsLengthExceedUidsInSubNet", f"{len(row)} weights for {len(members)} neurons")
    member = check_commit(rules, members, sender)
    if rules.weights_version and version_key < rules.weights_version:
        text = f"version key {version_key}; at least {rules.weights_version} is required"
        raise ChainRejected("IncorrectWeightVersionKey", text)
    uids = [uid for uid, _ in row]
    self_weight = uids == [member.uid]
    if not (member.permit or self_weight):
        raise ChainRejected("NeuronNoValidatorPermit", f"uid {member.uid} may only weight itself")
    if len(set(uids)) != len(uids):
        raise ChainRejected("DuplicateUids", f"uids {uids}")
    unknown = sorted(set(uids) - {other.uid for other in members})
    if unknown:
        raise ChainRejected("UidVecContainInvalidOne", f"uids {unknown} are not registered")
    if len(row) < min(rules.min_allowed_weights, len(members)) and not self_weight:
        raise ChainRejected(
            "WeightVecLengthIsLow", f"{len(row)} weights; at least {rules.min_allowed_weights} are required"
        )
    return member


def check_commit(rules: ChainRules, members: Sequence[RegisteredHotkey], sender: str) -> RegisteredHotkey:
    """Return the sender as a member with enough stake to have an opinion.

    Raises:
        ChainRejected: `HotKeyNotRegisteredInSubNet` or `NotEnoughStakeToSetWeights`.

    """
    member = member_of(members, sender, "HotKeyNotRegisteredInSubNet")
    if member.stake_rao < rules.min_stake_rao:
        text = f"stake {member.stake_rao} rao; at least {rules.min_stake_rao} is required"
        raise ChainRejected("NotEnoughStakeToSetWeights", text)
    return member


def check_weights_rate(rules: ChainRules, member: RegisteredHotkey, block: int, reason: str) -> None:
    """Refuse a second vector within the rate limit; registration counts as one (`check_rate_limit`).

    Raises:
        ChainRejected: `reason`.

    """
    since = block - member.last_update
    if member.last_update and since < rules.weights_rate_limit:
        text = f"{since} blocks since block {member.last_update}; {rules.weights_rate_limit} are required"
        raise ChainRejected(reason, text)


def check_axon(rules: ChainRules, ip: str, port: int, block: int, last_served: int) -> None:
    """Refuse an address, a port or a haste that `do_serve_axon` refuses.

    Raises:
        ChainRejected: `InvalidIpAddress`, `InvalidPort` or `ServingRateLimitExceeded`.

    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise ChainRejected("InvalidIpAddress", f"{ip!r} is not an address") from None
    highest = int(address) == 2**address.max_prefixlen - 1
    loopback = ip in {"127.0.0.1", "::1"} and not rules.loopback_allowed
    if highest or loopback:
        raise ChainRejected("InvalidIpAddress", f"{ip} cannot be announced")
    if not 1 <= port <= U16_MAX:
        raise ChainRejected("InvalidPort", f"port {port}; 1 to {U16_MAX} are allowed")
    if last_served and block - last_served < rules.serving_rate_limit:
        text = (
            f"{block - last_served} blocks since block {last_served}; {rules.serving_rate_limit} are required"
        )
        raise ChainRejected("ServingRateLimitExceeded", text)


def charge_commitment(rules: ChainRules, used_bytes: int, data: Sequence[bytes]) -> int:
    """The bytes used this epoch after the commitment.

    Raises:
        ChainRejected: `SpaceLimitExceeded`.

    """
    cost = max(MIN_COMMITMENT_COST_BYTES, sum(map(len, data)))
    if used_bytes + cost > rules.commitment_bytes_per_epoch:
        text = f"{used_bytes} bytes used and {cost} asked, of {rules.commitment_bytes_per_epoch} an epoch"
        raise ChainRejected("SpaceLimitExceeded", text)
    return used_bytes + cost


def member_of(members: Sequence[RegisteredHotkey], hotkey: str, reason: str) -> RegisteredHotkey:
    """The member with `hotkey`.

    Raises:
        ChainRejected: `reason`, when it has no uid.

    """
    found = next((member for member in members if member.hotkey == hotkey), None)
    if found is None:
        raise ChainRejected(reason, f"hotkey {hotkey} has no uid")
    return found


def free_uid(rules: ChainRules, members: Sequence[RegisteredHotkey], block: int) -> int:
    """The uid a newcomer gets: the next one, or that of the neuron to be replaced (`get_neuron_to_prune`).

    Replaced is the lowest emission, then the oldest registration, then the lowest uid; the immune only when
    no more than `min_non_immune_uids` are not.

    Raises:
        ChainRejected: `NoNeuronIdAvailable`.

    """
    if len(members) < rules.max_uids:
        return len(members)
    immune = [member for member in members if block - member.registered_block < rules.immunity_period]
    free = [member for member in members if member not in immune]
    candidates = free if len(free) > rules.min_non_immune_uids else immune
    if not candidates:
        raise ChainRejected(
            "NoNeuronIdAvailable", f"all {len(members)} uids are taken and none may be replaced"
        )
    return min(candidates, key=lambda member: (member.emission_ppb, member.registered_block, member.uid)).uid


def permits(rules: ChainRules, members: Sequence[RegisteredHotkey]) -> frozenset[int]:
    """The uids that may validate: the `max_validators` highest stakes above zero, ties to the lower uid."""
    ranked = sorted(members, key=lambda member: (-member.stake_rao, member.uid))
    return frozenset(member.uid for member in ranked[: rules.max_validators] if member.stake_rao > 0)


def run_epoch(
    rules: ChainRules, members: Sequence[RegisteredHotkey], rows: Mapping[int, Row]
) -> list[RegisteredHotkey]:
    """Recompute permits and emissions (parts per 10^9, incentive plus dividends)."""
    permitted = permits(rules, members)
    voters = [member for member in members if member.uid in permitted and rows.get(member.uid)]
    staked = sum(member.stake_rao for member in voters) or 1
    incentive = dict.fromkeys((member.uid for member in members), 0)
    for voter in voters:
        total = sum(value for _, value in rows[voter.uid]) or 1
        for uid, value in rows[voter.uid]:
            if uid in incentive:
                incentive[uid] += PPB * voter.stake_rao * value // (staked * total)
    for voter in voters:
        incentive[voter.uid] += PPB * voter.stake_rao // staked
    return [
        replace(member, permit=member.uid in permitted, emission_ppb=incentive[member.uid])
        for member in members
    ]


def parse_rules(values: Mapping[str, Any], refuse: Callable[[str], Exception]) -> ChainRules:
    """Rebuild rules from what a file holds; `refuse` makes the error for unknown, missing or absurd ones."""
    names = {field.name for field in fields(ChainRules)}
    if set(values) != names:
        raise refuse(f"rules {sorted(set(values) ^ names)} are unknown or missing")
    try:
        return ChainRules(**values)
    except ConfigError as error:
        raise refuse(error.message) from None
