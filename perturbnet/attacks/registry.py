"""Attacks by name: ours, and third parties' through the entry point group `perturb.attacks`."""

from __future__ import annotations

from importlib.metadata import entry_points

from perturbnet.attacks.exchange import Exchange
from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.attacks.protocol import Attack
from perturbnet.errors import AttackError, ConfigError

ENTRY_POINT_GROUP = "perturb.attacks"
_OURS: dict[str, type[Attack]] = {Exchange.name: Exchange, AscendingPgd.name: AscendingPgd}


def attack_names() -> list[str]:
    """Every attack that can be named, ours first."""
    theirs = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)} - set(_OURS)
    return [*_OURS, *sorted(theirs)]


def open_attack(name: str) -> Attack:
    """The attack of this name.

    Raises:
        ConfigError: there is none.
        AttackError: a third party's attack cannot be imported.

    """
    if name in _OURS:
        return _OURS[name]()
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            attack: Attack = entry.load()()
        except (ImportError, AttributeError) as error:
            raise AttackError(f"attack {name!r} ({entry.value}) cannot be imported: {error}") from error
        return attack
    raise ConfigError("PERTURB_ATTACK", name, "one of " + ", ".join(attack_names()))
