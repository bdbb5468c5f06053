"""How a miner searches: the protocol every attack keeps, the baseline, and the registry."""

from perturbnet.attacks.protocol import Accepted, Attack, AttackResult, AttackTask, Bank, Deadline, Oracle
from perturbnet.attacks.registry import attack_names, open_attack

__all__ = [
    "Accepted",
    "Attack",
    "AttackResult",
    "AttackTask",
    "Bank",
    "Deadline",
    "Oracle",
    "attack_names",
    "open_attack",
]
