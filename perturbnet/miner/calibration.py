"""What a step costs on this machine, measured at warm-up: it decides batch and reserve.

Rules
- Everything is done once before it is timed: the first pass compiles kernels and fills caches.
- `images_per_pass` is the size, among powers of two, at which an image is cheapest, as long as a pass takes
  no longer than `PASS_LIMIT_S` (nobody waits longer for his turn) and fits the device's memory.
- The reserve of a search is what verifying one more image takes, by the verifier's own code: attacks are told
  (`AttackTask.accept_cost_s`). Encoding and the gates cost in proportion to the image's size.
- The least of a few tries counts: a machine that happens to be busy now must not make a miner timid for ever.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from perturbnet.classifier.oracle import MarginQuestion
from perturbnet.miner.passes import JointOracle
from perturbnet.rules.classification import Engine
from perturbnet.rules.distortion import measure
from perturbnet.runtime.clock import Clock
from perturbnet.wire.images import decode_base64, decode_png, encode_base64, encode_png

PASS_LIMIT_S = 0.5
MOST_IMAGES = 64
WORSE = 1.3  # an image that much dearer than in the best batch: larger batches are not tried
SHAPE = (375, 500, 3)  # most pictures of the production data set
TRIES, TRY_AGAIN_BELOW_S = 3, 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """Seconds: of one image forward, forward and back, in the best batch forward and back, and to verify.

    `answer_s` is for encoding, decoding and the gates, `verdict_s` for the engine of the verdict.
    """

    forward_s: float
    gradient_s: float
    images_per_pass: int
    pass_s: float
    verdict_s: float
    answer_s: float

    def verify_s(self, values: int) -> float:
        """What verifying an image of so many values takes: an attack leaves it for the last."""
        return self.verdict_s + self.answer_s * values / math.prod(SHAPE)

    def to_json(self) -> dict[str, float | int]:
        """By name."""
        return asdict(self)


def measure_costs(oracle: JointOracle, engine: Engine, clock: Clock) -> MeasuredCosts:
    """Measure on noise; seconds on a CPU, and up to half a minute with the production network there."""
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)

    def timed(work: Callable[[], object]) -> float:
        took_s: list[float] = []
        while len(took_s) < TRIES and sum(took_s) < TRY_AGAIN_BELOW_S:
            started_s = clock.monotonic_s()
            work()
            took_s.append(clock.monotonic_s() - started_s)
        return min(took_s)

    def gradients(images: int) -> Callable[[], object]:
        question = MarginQuestion(np.stack([pixels] * images), np.zeros(images, np.int64))
        return lambda: oracle.answer_margins([question])

    gradients(1)()
    engine.classify([pixels])
    sizes = _try_sizes(lambda images: timed(gradients(images)))
    best = min(sizes, key=lambda images: (sizes[images] / images, images))
    return MeasuredCosts(
        forward_s=timed(lambda: oracle.answer_logits([pixels[None]])),
        gradient_s=sizes[1],
        images_per_pass=best,
        pass_s=sizes[best],
        verdict_s=timed(lambda: engine.classify([pixels])),
        answer_s=timed(lambda: measure(pixels, decode_png(decode_base64(encode_base64(encode_png(pixels)))))),
    )


def _try_sizes(seconds: Callable[[int], float]) -> dict[int, float]:
    """Seconds of a pass by its images: 1, 2, 4, … as long as it is worth it."""
    tried = {1: seconds(1)}
    images = 2
    while images <= MOST_IMAGES:
        if 2 * tried[images // 2] > PASS_LIMIT_S:
            break
        try:
            tried[images] = seconds(images)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's; here nothing imports torch
                raise
            log.info("A pass of %d images does not fit the device's memory", images)
            return {size: took_s for size, took_s in tried.items() if size <= max(1, images // 4)}
        dearer = tried[images] / images > WORSE * min(took_s / size for size, took_s in tried.items())
        if tried[images] > PASS_LIMIT_S or dearer:
            break
        images *= 2
    return tried
