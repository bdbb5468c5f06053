"""What our attack is compared with: simple ones, and public libraries' through a wrapper that quantises.

They keep the attack protocol, but run in the bench only: libraries need the network as a torch module, which
`MeteredOracle` has. Those that need a package name it; `pip install 'perturbnet[bench-attacks]'` brings it.
"""

from __future__ import annotations

from perturbnet.attack_bench.opponents.fgsm import Fgsm
from perturbnet.attack_bench.opponents.libraries import (
    FoolboxFmn,
    FoolboxFmnEliminated,
    Pdpgd,
    SigmaZero,
    SigmaZeroEliminated,
)
from perturbnet.attacks import Attack, attack_names, open_attack

_OPPONENTS: dict[str, type[Attack]] = {
    opponent.name: opponent
    for opponent in (Fgsm, FoolboxFmn, FoolboxFmnEliminated, SigmaZero, SigmaZeroEliminated, Pdpgd)
}


def contender_names() -> list[str]:
    """Every attack the bench can run: the miner's own and third parties', then the opponents."""
    return [*attack_names(), *(name for name in _OPPONENTS if name not in attack_names())]


def open_contender(name: str) -> Attack:
    """The attack or opponent of this name.

    Raises:
        ConfigError, AttackError: see `open_attack`.

    """
    if name in _OPPONENTS and name not in attack_names():
        return _OPPONENTS[name]()
    return open_attack(name)
