"""Any classifier, judged offline: the network's rules on a user's model and images, in a ledger of its own.

Rules
- What the network does is done by the network's code: challenges, verification, receipts, ledger, published
  log. Only what has no place offline is left out: no chain (so no anchor), no weights, one "miner" for each
  attack, in this process.
- Written ahead at every step: a run that was killed goes on with the same command; no image is judged twice.
- Only safetensors are read, never pickles. A network of the family that the canonical compiler knows is
  judged by the canonical engine; any other in float64, and its log says so.
- An attack that fails ends the run: counting it as "nothing found" would make a model look better than it is.
- Imports point to the other rooms; none of them imports this one.

Source: docs/evaluate.md; docs/verification-spec.md for what a verdict is.
"""

from perturbnet.evaluation.images import FolderSource, open_images

__all__ = ["FolderSource", "open_images"]
