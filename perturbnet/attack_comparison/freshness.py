"""What a miner with prepared answers earns, with freshness and without: the experiment behind the ranges.

Rules
- Challenges are made as validators make them, with the ranges under trial, and judged by the verifier.
- The miner that searches gets as long for a challenge as the prepared one had for a picture.
- One draw of freshness is one trial; trials of one picture belong together, so the interval of a ratio is
  bootstrapped over pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from perturbnet.attack_comparison import prepared
from perturbnet.attack_comparison.metering import Meter, MeteredOracle, MeteredTask
from perturbnet.attack_comparison.prepared import PreparedAnswer, Whole
from perturbnet.attacks import Attack, Bank, Deadline
from perturbnet.classifier.oracle import Differentiable, FloatOracle
from perturbnet.errors import Reject
from perturbnet.miner.search import build_response
from perturbnet.rounds.challenges import choose_view
from perturbnet.rules.classification import Engine
from perturbnet.rules.freshness import FreshnessRanges
from perturbnet.rules.scoring import score_verdict
from perturbnet.rules.verification import Task, Verdict, verify
from perturbnet.wire.images import Pixels
from perturbnet.wire.messages import Rules, encode
from perturbnet.wire.units import PPB

TRIES = {"cached": prepared.cached, "amplified": prepared.amplified, "robust": prepared.robust}
KINDS = ("fresh", *TRIES)
EPSILON = "0.0800"  # above the rules' own cap
NO_CHALLENGE = "0" * 64
MAX_BODY_BYTES = 2**31
RESAMPLES = 2000
LEVELS = tuple(range(1, prepared.ROBUST_LEVELS + 1))


@dataclass(frozen=True)
class Trial:
    """One challenge: the row of its picture, and the score of each kind of miner, 0 to 1."""

    row: int
    draw: int  # -1: the picture as it is, freshness off
    scores: dict[str, float]


@dataclass(frozen=True)
class FreshnessBench:
    """What all trials share; a search costs `budget_s` of virtual time or of the machine's."""

    engine: Engine
    network: Differentiable
    attack: Attack
    rules: Rules
    budget_s: float
    virtual: bool
    ranges: FreshnessRanges
    robust: bool = True  # whether to prepare against many warps too, which takes most of the time

    def run(self, row: int, pixels: Pixels, draws: int) -> list[Trial]:
        """The trials of one picture: freshness off, then `draws` challenges."""
        table, plain = self._prepare(row, pixels)
        trials = [Trial(row, -1, dict.fromkeys(KINDS[:3], plain))]
        for draw in range(draws):
            seed = hashlib.sha256(f"freshness trial:{row}:{draw}".encode()).digest()
            freshness, clean, _ = choose_view(row, pixels, seed, self.engine, self.ranges)
            judge = _Judge(self, clean)
            _, fresh = self._attack(clean, judge)
            scores = {"fresh": fresh}
            for kind, tries in TRIES.items():
                if kind != "robust" or self.robust:
                    scores[kind] = judge.first(tries(table, freshness))
            trials.append(Trial(row, draw, scores))
        return trials

    def _prepare(self, row: int, pixels: Pixels) -> tuple[PreparedAnswer, float]:
        """The table's entry for a picture, and what its answer earns without freshness."""
        table, scores = PreparedAnswer(), []
        for flip, view in enumerate((pixels, np.ascontiguousarray(pixels[:, ::-1]))):
            answer, score = self._attack(view, _Judge(self, view))
            scores.append(score)
            if answer is not None:
                change = answer.astype(np.float32) - view
                table.answers[flip] = np.ascontiguousarray(change[:, ::-1] if flip else change)
            for level in LEVELS if self.robust else ():
                table.robust[flip, level] = prepared.prepare_robust(
                    FloatOracle(self.network), pixels, flip, level, self.ranges, seed=row
                )
        return table, scores[0]

    def _attack(self, clean: Pixels, judge: _Judge) -> tuple[Pixels | None, float]:
        """Search within the budget: the answer and its score."""
        meter = Meter(self.virtual)

        def accepts(pixels: Pixels) -> bool:
            meter.count(verifications=1)
            return judge.accepts(pixels)

        bank = Bank(clean, accepts, meter.clock)
        task = MeteredTask(
            clean,
            judge.index,
            self.rules.levels(EPSILON),
            bank,
            min_ssim=float(self.rules.min_ssim),
            min_psnr_db=float(self.rules.min_psnr_db),
            meter=meter,
        )
        deadline = Deadline(meter.clock, meter.clock.monotonic_s() + self.budget_s)
        self.attack.run(MeteredOracle(self.network, meter), task, deadline)
        best = bank.best.pixels if bank.best else None
        return best, 0.0 if best is None else judge.score(best)


class _Judge:
    """The verifier on one challenge."""

    def __init__(self, bench: FreshnessBench, clean: Pixels) -> None:
        self._label = bench.engine.classify([clean])[0]
        self.index = self._label.index
        self._bench, self._clean = bench, clean
        self._task = Task(
            "trial", NO_CHALLENGE, clean, self._label.text, EPSILON, bench.rules, MAX_BODY_BYTES
        )

    def accepts(self, pixels: Pixels) -> bool:
        return self._verdict(pixels).reject is Reject.OK

    def score(self, pixels: Pixels) -> float:
        verdict = self._verdict(pixels)
        return score_verdict(verdict, epsilon=EPSILON, rules=self._bench.rules, response_ms=0) / PPB

    def first(self, tries: Iterable[Whole]) -> float:
        """The score of the first try that is accepted."""
        moved = (prepared.add(self._clean, change) for change in tries)
        return next((self.score(pixels) for pixels in moved if self.accepts(pixels)), 0.0)

    def _verdict(self, pixels: Pixels) -> Verdict:
        body = encode(build_response("trial", NO_CHALLENGE, pixels))
        return verify(self._task, body, self._bench.engine, clean=self._label)


def summarise(trials: Sequence[Trial]) -> list[dict[str, float | str | None]]:
    """For each kind of miner: mean scores, the share of what a search earns, its interval, success."""
    fresh = [trial for trial in trials if trial.draw >= 0]
    plain = [trial for trial in trials if trial.draw < 0]
    rows: list[dict[str, float | str | None]] = []
    for kind in [kind for kind in KINDS if kind in fresh[0].scores]:
        low, high = _interval(fresh, kind)
        off = [trial.scores[kind] for trial in plain if kind in trial.scores]
        rows.append(
            {
                "miner": kind,
                "off": float(np.mean(off)) if off else None,
                "on": _mean(fresh, kind),
                "share": _mean(fresh, kind) / max(_mean(fresh, "fresh"), 1e-9),
                "share_low": low,
                "share_high": high,
                "success": float(np.mean([trial.scores[kind] > 0 for trial in fresh])),
            }
        )
    return rows


def _mean(trials: Sequence[Trial], kind: str) -> float:
    return float(np.mean([trial.scores[kind] for trial in trials]))


def _interval(trials: Sequence[Trial], kind: str) -> tuple[float, float]:
    """95 % of the bootstrapped ratios to a search, pictures drawn with replacement."""
    by_row = sorted({trial.row for trial in trials})
    sums = np.array(
        [
            [sum(trial.scores[one] for trial in trials if trial.row == row) for one in (kind, "fresh")]
            for row in by_row
        ]
    )
    picks = np.random.default_rng(0).integers(0, len(by_row), (RESAMPLES, len(by_row)))
    drawn = sums[picks].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-9), (0.025, 0.975))
    return float(low), float(high)
