"""Run as a process of its own: a validator with the real data set and model, and a crowd of cheap miners.

    python tests/integration/many_receipts.py FOLDER CACHE ROUNDS MINERS

Writes FOLDER/log (a bundle), FOLDER/anchors.json and prints the hotkey. The miners share one gradient a round
and differ by which pixels they change, so every answer is another image, and some succeed.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perturbnet.bootstrap.holdings import open_checked, open_manifest
from perturbnet.bootstrap.plan import BootstrapPlan
from perturbnet.bootstrap.records import Workplace
from perturbnet.bootstrap.running import ensure
from perturbnet.classifier import open_engine, open_oracle
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.journal import DELTAS_FOLDER, LEDGER_FILE
from perturbnet.transparency.delegation import build_genesis
from perturbnet.wire.images import Pixels, decode_base64, decode_png
from perturbnet.wire.messages import AttackChallenge
from tests.support.auditing.honest import HOTKEY, LOG_KEY
from tests.support.auditing.published import anchor_of, publish, write_anchors
from tests.support.fakes import NETUID, MemoryCourier, keypair, response_body
from tests.support.validator.world import World, make_world


@dataclass
class Crowd:
    """Everybody's answer to the newest challenge: one step along the gradient, in a part of the pixels."""

    cache: Path
    steps: dict[str, tuple[Pixels, Pixels]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """One oracle for all."""
        self.oracle = open_oracle("reference", cache_dir=self.cache, device="cpu")
        self.engine = open_engine("reference", cache_dir=self.cache, device="cpu")

    def answer(self, uid: int, challenge: AttackChallenge) -> bytes:
        """Change the pixels that this miner's dice choose by one to seven levels."""
        clean, step = self._step(challenge)
        dice = np.random.default_rng([uid, int(challenge.challenge_id[:12], 16)])
        chosen = dice.random(clean.shape[:2]) < dice.uniform(0.5, 1.0)
        level = int(dice.integers(1, 8))
        moved = clean.astype(np.int16) + level * step.astype(np.int16) * chosen[..., None]
        pixels = np.clip(moved, 0, 255).astype(np.uint8)
        return response_body(challenge.task_id, challenge.challenge_id, pixels)

    def _step(self, challenge: AttackChallenge) -> tuple[Pixels, Pixels]:
        if challenge.challenge_id not in self.steps:
            clean = decode_png(decode_base64(challenge.clean_image_b64))
            label = self.engine.classify([clean])[0].index
            _, gradient = self.oracle.margin_grad(clean[None], np.array([label]))
            self.steps = {challenge.challenge_id: (clean, -np.sign(gradient[0]).astype(np.int8))}
        return self.steps[challenge.challenge_id]


async def live(world: World, rounds: int) -> None:
    """Open, play, close; the bundle comes after."""
    await world.live(rounds)


def main() -> None:
    """Make the log and publish it."""
    folder, cache, rounds, miners = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    world = make_world(folder, miners=miners, PERTURB_HISTORY_SIZE="5", PERTURB_MIN_PROCESSED_COUNT="5")
    place = Workplace(cache, "reference")
    ensure(BootstrapPlan(place), show=lambda _standing, _said: None)
    manifest = open_manifest(place)
    world.fingerprint = manifest.digest
    world.source = open_checked(place, manifest)  # type: ignore[assignment]
    world.engine = open_engine("reference", cache_dir=cache, device="cpu")  # type: ignore[assignment]
    crowd = Crowd(cache)
    world.courier = MemoryCourier(
        {uid: (lambda challenge, uid=uid: crowd.answer(uid, challenge)) for uid in range(1, miners + 1)}  # type: ignore[misc]
    )
    with LedgerStore(world.state_dir / LEDGER_FILE) as store:
        store.append([build_genesis(keypair(1), LOG_KEY, network="local", netuid=NETUID, created_ms=0)])
    asyncio.run(live(world, rounds))
    leaves = [entry.leaf for entry in world.entries()]
    publish(leaves, folder / "log", world.state_dir / DELTAS_FOLDER)
    write_anchors(folder / "anchors.json", anchor_of(leaves))
    sys.stdout.write(f"{HOTKEY}\n")


if __name__ == "__main__":
    main()
