"""The runtime's records of a subnet, as the SDK's codec decodes them, into our values.

They are read field by field here and not through the SDK's typed metagraph: there, one neuron that announces
a nonsense address costs the caller every other neuron too. Here it costs only itself.

Source: pallets/subtensor, `rpc_info/metagraph.rs`; pallets/commitments, `types.rs`. Field names checked
    against the
metadata of the live runtime (April 2026).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from perturbnet.chain.protocol import U16_MAX, Hyperparameters
from perturbnet.errors import ChainError
from perturbnet.rules.subnet import Metagraph, Neuron

MAX_NEURONS = 4096  # a subnet holds 256; an answer with more is not a metagraph

# Our names for the rules in the runtime's metagraph record, in this order.
_RULES = {
    "tempo": "tempo",
    "weights_rate_limit": "weights_rate_limit",
    "commit_reveal_enabled": "commit_reveal_weights_enabled",
    "reveal_period_epochs": "commit_reveal_period",
    "weights_version": "weights_version",
    "min_allowed_weights": "min_allowed_weights",
    "max_weight_limit_u16": "max_weights_limit",
    "immunity_period": "immunity_period",
    "serving_rate_limit": "serving_rate_limit",
    "max_uids": "max_uids",
    "max_validators": "max_validators",
    "activity_cutoff": "activity_cutoff",
}


def read_hyperparameters(graph: dict[str, Any]) -> Hyperparameters:
    """Read the subnet's rules from the runtime's `Metagraph` record.

    Raises:
        ChainError: the record lacks one of them.
        ValueError: a number that is none.

    """
    missing = sorted(set(_RULES.values()) - graph.keys())
    if missing:
        raise ChainError(f"the subnet's record lacks {missing}")
    values: dict[str, Any] = {ours: int(graph[theirs]) for ours, theirs in _RULES.items()}
    values["commit_reveal_enabled"] = bool(values["commit_reveal_enabled"])
    return Hyperparameters(**values)


def read_metagraph(graph: dict[str, Any], netuid: int, block: int) -> Metagraph:
    """Read every neuron of the runtime's `Metagraph` record; `block` stands in where the record has none.

    Raises:
        ChainError: columns of different lengths, or more neurons than a subnet can hold.
        ValueError: a number that is none.

    """
    hotkeys = list(graph.get("hotkeys") or ())
    if len(hotkeys) > MAX_NEURONS:
        raise ChainError(f"a metagraph of {len(hotkeys)} neurons; at most {MAX_NEURONS} are expected")
    names = (
        "coldkeys",
        "axons",
        "total_stake",
        "validator_permit",
        "active",
        "last_update",
        "block_at_registration",
    )
    columns = [list(graph.get(name) or ()) for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(hotkeys):
            raise ChainError(f"the metagraph has {len(hotkeys)} hotkeys but {len(column)} values in {name!r}")
    neurons = tuple(_neuron(uid, *record) for uid, record in enumerate(zip(hotkeys, *columns, strict=True)))
    return Metagraph(int(graph.get("block") or block), netuid, neurons)


def _neuron(uid: int, hotkey: Any, coldkey: Any, axon: Any, *numbers: Any) -> Neuron:
    stake, permit, active, updated, registered = (int(number or 0) for number in numbers)
    ip, port = _endpoint(axon)
    return Neuron(
        uid=uid,
        hotkey=str(hotkey),
        coldkey=str(coldkey),
        stake_rao=stake,
        validator_permit=bool(permit),
        active=bool(active),
        ip=ip,
        port=port,
        last_update=updated,
        registered_block=registered,
    )


def _endpoint(axon: Any) -> tuple[str | None, int]:
    """Address and port of an axon record; (None, 0) when nothing, or nonsense, is served."""
    try:
        number, port, kind = int(axon["ip"]), int(axon["port"]), int(axon["ip_type"])
        if number == 0 or not 1 <= port <= U16_MAX:
            return None, 0
        return str(ipaddress.IPv6Address(number) if kind == 6 else ipaddress.IPv4Address(number)), port
    except (TypeError, KeyError, ValueError):
        return None, 0


def read_raw_fields(entries: Any) -> tuple[bytes, ...]:
    """The bytes of the `Raw<n>` fields, in order; text that is not hex is skipped."""
    found = []
    for entry in entries:
        for variant, value in entry.items() if isinstance(entry, dict) else ():
            if not str(variant).startswith("Raw"):
                continue
            try:
                found.append(
                    bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
                )
            except (TypeError, ValueError):
                continue
    return tuple(found)
