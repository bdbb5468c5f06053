"""What a verdict earns: pure functions of the verdict, the rules and the recorded response time.

Rules (docs/verification-spec.md)
    cap          = min(epsilon, max_linf_delta)
    linf_ratio   = clamp((linf - min_linf_delta) / (cap - min_linf_delta), 0, 1)
    rmse_ratio   = clamp(rmse / cap, 0, 1)
    perturbation = (w_linf (1 - linf_ratio)² + w_rmse (1 - rmse_ratio)²) / (w_linf + w_rmse)
    speed        = 1 - min(response_time / timeout, 1)
    score        = perturbation_weight * perturbation + speed_weight * speed;   any failure: 0

Every operation is one IEEE 754 binary64 operation (+ - * / sqrt) in the order written here, each constant the
binary64 nearest to its decimal text, so the result is the same on every machine. It is rounded once, half to
even, to parts per 10^9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from perturbnet.errors import Reject
from perturbnet.rules.distortion import rmse
from perturbnet.rules.verification import Verdict
from perturbnet.wire.messages import Rules
from perturbnet.wire.units import to_ppb


def score_verdict(verdict: Verdict, *, epsilon: str, rules: Rules, response_ms: int) -> int:
    """The score in parts per 10^9; 0 for every reject code but `ok`. At most the sum of the two weights.

    Args:
        verdict: of one response.
        epsilon: the challenge's, as decimal text.
        rules: gates and weights.
        response_ms: as the validator measured and recorded it.

    """
    if verdict.reject is not Reject.OK:
        return 0
    perturbation = score_perturbation(
        verdict.linf_u8, rmse(verdict.sum_sq, verdict.height, verdict.width), epsilon=epsilon, rules=rules
    )
    speed = 1.0 - min(response_ms / rules.timeout_ms, 1.0)
    score = float(rules.perturbation_weight) * perturbation + float(rules.speed_weight) * speed
    return to_ppb(score)


def score_perturbation(linf_u8: int, rmse_share: float, *, epsilon: str, rules: Rules) -> float:
    """How small the change is, 0 to 1; `rmse_share` is in units of full scale."""
    low = float(rules.min_linf_delta)
    cap = float(min(Decimal(epsilon), Decimal(rules.max_linf_delta)))
    w_linf, w_rmse = float(rules.linf_component_weight), float(rules.rmse_component_weight)
    linf_left = 1.0 - _clamp((linf_u8 / 255 - low) / (cap - low)) if cap > low else 1.0
    rmse_left = 1.0 - _clamp(rmse_share / cap)
    return (w_linf * (linf_left * linf_left) + w_rmse * (rmse_left * rmse_left)) / (w_linf + w_rmse)


def settle_duplicates(scores_ppb: Mapping[int, int], pixels: Mapping[int, str], mode: str) -> dict[int, int]:
    """Apply the rule for identical answers.

    Args:
        scores_ppb: score by uid.
        pixels: digest of the adversarial pixels by uid; empty where there are none.
        mode: `record` leaves the scores alone, `split` shares one score among the group (rounded down),
            `zero` gives it nothing.

    Raises:
        ValueError: another mode.

    """
    group = Counter(digest for digest in pixels.values() if digest)
    size = {uid: group.get(pixels.get(uid, ""), 1) for uid in scores_ppb}
    match mode:
        case "record":
            return dict(scores_ppb)
        case "split":
            return {uid: score // size[uid] for uid, score in scores_ppb.items()}
        case "zero":
            return {uid: 0 if size[uid] > 1 else score for uid, score in scores_ppb.items()}
        case _:
            raise ValueError(f"duplicates: {mode!r} is not allowed; expected record, split or zero")


def _clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0)
