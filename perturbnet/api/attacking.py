"""`attack`: the smallest change of one image that the verifier accepts, found in a given time."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from perturbnet.api.arguments import (
    Picture,
    read_count,
    read_epsilon,
    read_picture,
    read_seconds,
    require_one_of,
)
from perturbnet.api.models import Classifier
from perturbnet.api.verdicts import default_rules, pose, respond
from perturbnet.attacks import Attack, AttackTask, Bank, Deadline, attack_names, open_attack
from perturbnet.errors import AttackError, PerturbError, Reject
from perturbnet.rules.classification import Classification
from perturbnet.rules.scoring import score_verdict
from perturbnet.rules.verification import Task, Verdict, verify
from perturbnet.runtime.clock import SystemClock
from perturbnet.wire.images import Pixels
from perturbnet.wire.messages import Rules


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """What an attack on one image came to.

    `clean` and `adversarial` are uint8 (H, W, 3); the second is None where nothing was found, and then the
    verdict is `no_image`, as the network would record it, and `reason` says why. `before` is what the model
    says of the clean image. `score_ppb` is in parts per 10^9, for an answer that took no time.
    """

    clean: Pixels
    before: Classification
    adversarial: Pixels | None
    verdict: Verdict
    score_ppb: int
    seconds: float
    reason: str

    @property
    def found(self) -> bool:
        """Whether there is an adversarial image; the verifier has accepted it."""
        return self.adversarial is not None


def attack(
    model: Classifier,
    image: Picture,
    *,
    seconds: float = 20.0,
    epsilon: str | float | Decimal | None = None,
    rules: Rules | None = None,
    name: str = "exchange",
    seed: int = 0,
) -> AttackOutcome:
    """Search the smallest change of an image that makes the model err, and that the verifier accepts.

    Args:
        model: of `load_model`.
        image: uint8 (H, W, 3), RGB, both sides at least 32; or the path of a picture.
        seconds: how long to search; the attack may end before.
        epsilon: the most that a value may change, in units of full scale (1 = 255 levels): decimal text or a
            number. The rules' `max_linf_delta` caps it, and is meant by None.
        rules: gates and weights; None means `default_rules()`.
        name: a registered attack's; `perturb attack --list` names them, third parties' too.
        seed: makes two searches differ.

    Raises:
        ArgumentError: an argument of the wrong type, shape or range.
        PictureError: a path that is no picture.
        AttackError: the attack itself failed, or a third party's cannot be imported.

    Example:
        >>> import numpy, perturbnet
        >>> model = perturbnet.load_model("reference")
        >>> image = numpy.full((96, 96, 3), 128, dtype=numpy.uint8)
        >>> outcome = perturbnet.attack(model, image, seconds=0.5)
        >>> outcome.found == (outcome.verdict.reject is perturbnet.Reject.OK)
        True

    """
    clean, budget_s = read_picture("image", image), read_seconds(seconds)
    chosen = open_attack(require_one_of("name", name, tuple(attack_names())))
    number = read_count("seed", seed, least=0) or 0
    rules = rules or default_rules()
    text = read_epsilon(epsilon, rules)
    before = model.classify([clean])[0]
    task = pose(clean, before.text, epsilon=text, rules=rules)
    bank, reason, took_s = _search(chosen, model, task, before, budget_s, number)
    found = bank.best.pixels if bank.best else None
    verdict = verify(task, respond(found, reason), model, clean=before)
    points = score_verdict(verdict, epsilon=text, rules=rules, response_ms=0)
    return AttackOutcome(clean, before, found, verdict, points, took_s, reason)


def _search(
    chosen: Attack, model: Classifier, task: Task, before: Classification, budget_s: float, seed: int
) -> tuple[Bank, str, float]:
    """Run the attack: what the verifier accepted, what the attack says at its end, the seconds it took."""
    oracle, clock = model.oracle, SystemClock()
    started_s = clock.monotonic_s()

    def accepts(pixels: Pixels) -> bool:
        return verify(task, respond(pixels), model, clean=before).reject is Reject.OK

    bank = Bank(task.clean, accepts, clock)
    hunt = AttackTask(
        clean=task.clean,
        label_index=before.index,
        levels=task.rules.levels(task.epsilon),
        accepts=bank,
        seed=seed,
        min_ssim=float(task.rules.min_ssim),
        min_psnr_db=float(task.rules.min_psnr_db),
    )
    try:
        result = chosen.run(oracle, hunt, Deadline(clock, started_s + budget_s))
    except PerturbError:
        raise
    except Exception as error:  # a third party's code
        raise AttackError(f"the attack {chosen.name!r} failed: {error!r}") from error
    return bank, result.reason, clock.monotonic_s() - started_s
