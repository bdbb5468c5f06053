"""A search as the miner runs it: an image, a judge that notes what it is shown, a clock."""

from __future__ import annotations

import numpy as np

from perturbnet.attacks import AttackResult, AttackTask, Bank, Deadline
from perturbnet.attacks.exchange import Exchange
from perturbnet.attacks.pgd import AscendingPgd
from perturbnet.rules.distortion import ssim
from perturbnet.runtime.clock import Clock
from perturbnet.wire.images import Pixels
from tests.support.fakes import BlockEngine, BlockOracle, VirtualClock, flip, texture

ENGINE = BlockEngine()
LEVELS = (1, 2, 3, 4, 5, 6, 7)


def linf(clean: Pixels, adversarial: Pixels) -> int:
    return int(np.abs(adversarial.astype(int) - clean).max())


def standing(levels: int, prefix: str = "stand") -> Pixels:
    """A texture that stands below this many levels."""
    seeds = (texture(f"{prefix}-{seed}") for seed in range(1000))
    return next(one for one in seeds if linf(one, flip(ENGINE, one)) == levels)


class Judge:
    """The verifier: what flips the text, and passes SSIM; each question costs time."""

    def __init__(
        self,
        clean: Pixels,
        clock: VirtualClock,
        *,
        cost_s: float = 0.0,
        min_ssim: float = 0.0,
        never: bool = False,
    ) -> None:
        self.clean, self.clock, self.cost_s, self.min_ssim, self.never = clean, clock, cost_s, min_ssim, never
        self.refused_by_ssim = 0
        self.text = ENGINE.classify([clean])[0].text

    def __call__(self, pixels: Pixels) -> bool:
        self.clock.advance(self.cost_s)
        flipped = ENGINE.classify([pixels])[0].text != self.text
        similar = ssim(self.clean, pixels) >= self.min_ssim
        self.refused_by_ssim += not similar
        return not self.never and flipped and similar


def run(
    clean: Pixels,
    *,
    seconds: float = 60.0,
    pass_s: float = 0.002,
    judge_s: float = 0.01,
    levels: tuple[int, ...] = LEVELS,
    seed: int = 0,
    min_ssim: float = 0.0,
    never: bool = False,
    per_value: int = 0,
    attack: Exchange | AscendingPgd | None = None,
) -> tuple[AttackResult, Bank, VirtualClock, BlockOracle]:
    clock = VirtualClock(0.0)
    judge = Judge(clean, clock, cost_s=judge_s, min_ssim=min_ssim, never=never)
    bank = Bank(clean, judge, as_clock(clock), per_value)
    oracle = BlockOracle(ENGINE, clock, pass_s)
    label = ENGINE.classify([clean])[0].index
    task = AttackTask(
        clean,
        label,
        levels,
        bank,
        seed,
        accept_cost_s=judge_s,
        min_ssim=min_ssim,
        forward_cost_s=pass_s,
        gradient_cost_s=pass_s,
        per_value=per_value,
    )
    result = (attack or Exchange()).run(oracle, task, Deadline(clock, seconds))
    return result, bank, clock, oracle


def as_clock(clock: VirtualClock) -> Clock:
    return clock
