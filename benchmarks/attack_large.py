"""`exchange` against EfficientNetV2-L at 480 on a virtual clock: what two cores find in a challenge.

    python -m benchmarks.attack_large [--images 6] [--forward-s 1.25 --gradient-s 3.8 --verdict-s 3.4]

The network computes for real, with the engine of the verdict; only time is told: an idle two-core machine's
costs by default, so the result is the same on a busy one. The challenge's 20 s lose the reserve for sending
and the verdict on the clean image, as in the miner. Seeded weights: see `benchmarks.inference`.
"""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks.inference import large_engine, photographs, stored_model
from perturbnet.attack_comparison.metering import VirtualCosts
from perturbnet.attack_comparison.trials import Bench, run_trial
from perturbnet.attacks import open_attack
from perturbnet.classifier.canonical.artefact import read_artefact
from perturbnet.classifier.canonical.gradient import GradientNetwork
from perturbnet.config import load_settings
from perturbnet.datasets import SourceImage
from perturbnet.rounds.challenges import Challenge, build_challenge
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.traversal import Draw

TIMEOUT_S, RESERVE_S = 20.0, 1.0


def main() -> None:
    """Attack each photograph once; a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attack_large", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--forward-s", type=float, default=1.25)
    parser.add_argument("--gradient-s", type=float, default=3.8)
    parser.add_argument("--verdict-s", type=float, default=3.4)
    given = parser.parse_args()
    costs = VirtualCosts(given.forward_s, given.gradient_s - given.forward_s, given.verdict_s, 0.03)
    bench = open_bench(costs)
    for number in range(given.images):
        trial = run_trial(bench, open_attack("exchange"), draw(bench, number))
        found = [f"{at:.1f} s: k {level}, {changed:,} values" for at, level, changed, *_ in trial["trace"]]
        late = "LATE" if trial["late"] else "in time"
        passes = (
            f"{trial['forward']} forward, {trial['backward']} backward, {trial['verifications']} verified"
        )
        line = f"{number}: {'; '.join(found) or 'none'}; verdict {trial['verdict']}; {passes}; {late}\n"
        sys.stdout.write(line)
        sys.stdout.flush()


def open_bench(costs: VirtualCosts) -> Bench:
    """The large network with production's rules."""
    torch.set_num_threads(1)
    network = GradientNetwork(read_artefact(stored_model())[0])
    rules = build_rules(load_settings({}).settings)
    return Bench(large_engine(), network, rules, TIMEOUT_S - RESERVE_S - costs.verification_s, True, costs)


def draw(bench: Bench, number: int) -> Challenge:
    """A photograph as a challenge, without freshness: on seeded weights it would say nothing."""
    pixels = photographs()[number]
    return build_challenge(
        SourceImage(number, pixels, 0, "unknown"),
        draw=Draw(0, 0, number),
        engine=bench.engine,
        netuid=0,
        block=number,
        attempt=0,
        freshness_seed=None,
        rules=bench.rules,
    )


if __name__ == "__main__":
    main()
