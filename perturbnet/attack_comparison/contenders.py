"""Attacks by what the bench is told: a registered name, an opponent's, or `module:Class` of any file here.

Public libraries' attacks stand in a checkout's `benchmarks/attack_peers.py`, outside the package, because no
node needs their packages: `PUBLIC` is short for all of them.
"""

from __future__ import annotations

import importlib
import os
import sys

from perturbnet.attack_comparison.fgsm import Fgsm
from perturbnet.attacks import Attack, attack_names, open_attack
from perturbnet.attacks.exchange import Exchange
from perturbnet.attacks.protocol import FEWEST_VALUES
from perturbnet.errors import AttackError

PUBLIC = "public"
_PEERS = "benchmarks.attack_peers"
_PEER_CLASSES = ("FoolboxFmn", "FoolboxFmnEliminated", "SigmaZeroEliminated", "Pdpgd")


class FewestValues(Exchange):
    """`exchange` asked for as few changed values as the least level takes; see `AttackTask.per_value`."""

    name = "exchange-values"
    per_value = FEWEST_VALUES


_OPPONENTS: dict[str, type[Attack]] = {Fgsm.name: Fgsm, FewestValues.name: FewestValues}


def contender_names() -> list[str]:
    """Every attack with a name of its own: the miner's and third parties', then the opponents."""
    return [*attack_names(), *(name for name in _OPPONENTS if name not in attack_names())]


def expand(names: str) -> list[str]:
    """Names with commas between them; `all` and `public` stand for several."""
    found: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        if name in {"all", PUBLIC}:
            found += contender_names() if name == "all" else []
            found += [f"{_PEERS}:{peer}" for peer in _PEER_CLASSES]
        elif name:
            found.append(name)
    return list(dict.fromkeys(found))


def open_contender(name: str) -> Attack:
    """The attack, opponent or class of this name.

    Raises:
        ConfigError: there is no such name.
        AttackError: it cannot be imported.

    """
    if name in _OPPONENTS and name not in attack_names():
        return _OPPONENTS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        return open_attack(name)
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.append(here)
    try:
        attack: Attack = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        hint = "run from a checkout's root, or name another module:Class"
        raise AttackError(f"attack {name!r} cannot be imported: {error}", hint=hint) from error
    return attack
