"""Which miners a challenge goes to: a pure function of the metagraph, the counts so far and a seed.

Rules (docs/architecture.md, "Rules of the network")
- Everyone but the asking validator is a candidate; a permitted validator that announces no axon is not.
- Miners that share a coldkey are one operator and are asked once: the lowest uid. Grouping by announced IP is
  a setting, off by default, because an axon's IP is self-declared. Both are lifted on a local network.
- About `exploration` of k goes to miners below the processed count, the rest at random among the others; a
  pool that is too small is filled from the other, so a young network asks everyone.
- "At random" is the order of SHA-256(seed || hotkey): exact, seeded, and an auditor repeats it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from perturbnet.rules.subnet import Metagraph, Neuron


@dataclass(frozen=True)
class SelectionRules:
    """The settings a selection depends on; recorded with the network's rules."""

    k: int
    exploration: Decimal
    min_processed: int
    group_by_coldkey: bool = True
    group_by_ip: bool = False


@dataclass(frozen=True)
class Selection:
    """Who is asked, by ascending uid, and how many of them were chosen for exploration."""

    neurons: tuple[Neuron, ...]
    explored: int


def select_miners(
    metagraph: Metagraph, *, own_hotkey: str, processed: Mapping[int, int], rules: SelectionRules, seed: bytes
) -> Selection:
    """Choose at most k miners.

    Args:
        metagraph: the snapshot recorded with the challenge.
        own_hotkey: the asking validator.
        processed: uid to counted rounds; a uid that is missing counts 0.
        rules: k and the rest.
        seed: 32 bytes that belong to the draw.

    """
    pool = candidates(metagraph, own_hotkey, rules)
    new = [neuron for neuron in pool if processed.get(neuron.uid, 0) < rules.min_processed]
    known = [neuron for neuron in pool if processed.get(neuron.uid, 0) >= rules.min_processed]
    k = min(rules.k, len(pool))
    wanted = int((rules.k * rules.exploration).to_integral_value(ROUND_HALF_EVEN))
    explore = min(len(new), max(wanted, k - len(known)))
    chosen = _shuffled(new, seed)[:explore] + _shuffled(known, seed)[: k - explore]
    return Selection(tuple(sorted(chosen, key=lambda neuron: neuron.uid)), explore)


def candidates(metagraph: Metagraph, own_hotkey: str, rules: SelectionRules) -> list[Neuron]:
    """Everyone who may be asked, by ascending uid, one per operator."""
    found = [
        neuron
        for neuron in sorted(metagraph.neurons, key=lambda neuron: neuron.uid)
        if neuron.hotkey != own_hotkey and (neuron.ip is not None or not neuron.validator_permit)
    ]
    if rules.group_by_coldkey:
        found = _first_of_each(found, [neuron.coldkey for neuron in found])
    if rules.group_by_ip:
        found = _first_of_each(found, [neuron.ip or f"uid {neuron.uid}" for neuron in found])
    return found


def _first_of_each(neurons: Iterable[Neuron], groups: Iterable[str]) -> list[Neuron]:
    first: dict[str, Neuron] = {}
    for neuron, group in zip(neurons, groups, strict=True):
        first.setdefault(group, neuron)
    return list(first.values())


def _shuffled(neurons: Iterable[Neuron], seed: bytes) -> list[Neuron]:
    return sorted(neurons, key=lambda neuron: hashlib.sha256(seed + neuron.hotkey.encode()).digest())
