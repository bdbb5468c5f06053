"""The chain: a small protocol, the adapter to bittensor, and a local chain that keeps the same rules.

`open_chain` gives the right one by the network's name, with a deadline around every call.
"""

from perturbnet.chain.deadlines import DeadlineChain, Effect, reconcile_weights
from perturbnet.chain.local import LocalChain
from perturbnet.chain.open import open_chain
from perturbnet.chain.protocol import Chain, Hyperparameters, Submission, WeightsOnChain, to_u16
from perturbnet.chain.rules import ChainRules
from perturbnet.chain.store import ChainFileCorrupt

__all__ = [
    "Chain",
    "ChainFileCorrupt",
    "ChainRules",
    "DeadlineChain",
    "Effect",
    "Hyperparameters",
    "LocalChain",
    "Submission",
    "WeightsOnChain",
    "open_chain",
    "reconcile_weights",
    "to_u16",
]
