"""How a miner searches: the protocol every attack keeps, the baseline, and the registry."""

from perturbnet.attacks.protocol import Attack, AttackResult, AttackTask, Deadline, Oracle
from perturbnet.attacks.registry import attack_names, open_attack

__all__ = [
    "Attack",
    "AttackResult",
    "AttackTask",
    "Deadline",
    "Oracle",
    "attack_names",
    "open_attack",
]
