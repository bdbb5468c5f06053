"""`verify` and `score`: the network's verdict on two images, and what it earns."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache

from pydantic import ValidationError

from perturbnet.api.arguments import Picture, read_count, read_epsilon, read_picture
from perturbnet.config import load_settings
from perturbnet.errors import ArgumentError, MessageError
from perturbnet.miner.search import build_response
from perturbnet.rules import scoring, verification
from perturbnet.rules.classification import Engine
from perturbnet.rules.from_settings import build_rules
from perturbnet.rules.verification import Task, Verdict
from perturbnet.wire.images import Pixels
from perturbnet.wire.messages import AttackResponse, Rules, encode, parse, response_limit_bytes

OFFLINE = "offline"
NO_CHALLENGE = "0" * 64


def default_rules(**changes: str | int) -> Rules:
    """The network's rules as this version has them, with changes by name. The environment does not count.

    Args:
        changes: fields of `Rules`: decimal text in units of full scale (1 = 255 levels), in dB, or weights;
            `timeout_ms` and `version` are whole numbers.

    Raises:
        ArgumentError: no such field, or a value that is not allowed.

    Example:
        >>> import perturbnet
        >>> perturbnet.default_rules(min_ssim="0.99").min_ssim
        '0.99'

    """
    rules = _network_rules()
    if not changes:
        return rules
    try:
        return Rules.model_validate(rules.model_dump() | changes)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "rules"
        unknown = fault["type"] == "extra_forbidden"
        allowed = f"one of {', '.join(Rules.model_fields)}" if unknown else fault["msg"]
        raise ArgumentError(where, where if unknown else changes.get(where, changes), allowed) from None


def verify(
    clean: Picture,
    adversarial: Picture | bytes,
    model: Engine,
    *,
    epsilon: str | float | Decimal | None = None,
    rules: Rules | None = None,
    label: str | None = None,
) -> Verdict:
    """Judge a changed image by the network's numbered checks, as a validator and an auditor do.

    The verdict is a value, whatever `adversarial` is: `verdict.reject` is `Reject.OK` or says which check
    failed first, and the other fields what was measured, in integers. See docs/verification-spec.md.

    Args:
        clean: uint8 (H, W, 3), RGB, both sides at least 32; or the path of a picture.
        adversarial: likewise; or bytes: a miner's response as it travelled (a JSON object with the image as
            PNG in base64). Which challenge a response answers is for an audit to say: it is not looked at.
        model: of `load_model`, or any `Engine`.
        epsilon: the most that a value may change, in units of full scale (1 = 255 levels): decimal text or a
            number. The rules' `max_linf_delta` caps it, and is meant by None.
        rules: gates and weights; None means `default_rules()`.
        label: what the clean image must show; None means what the model says it shows.

    Raises:
        ArgumentError: an argument of the wrong type, shape or range.
        PictureError: a path that is no picture.

    Example:
        >>> import numpy, perturbnet
        >>> model = perturbnet.load_model("reference")
        >>> clean = numpy.full((96, 96, 3), 128, dtype=numpy.uint8)
        >>> verdict = perturbnet.verify(clean, clean, model)
        >>> verdict.reject.value, verdict.linf_u8
        ('linf_low', 0)

    """
    pixels = read_picture("clean", clean)
    before = model.classify([pixels])[0]
    task = pose(pixels, before.text if label is None else label, epsilon=epsilon, rules=rules)
    if isinstance(adversarial, bytes):
        task, body = _addressed(task, adversarial), adversarial
    else:
        body = respond(read_picture("adversarial", adversarial, smallest=1))
    return verification.verify(task, body, model, clean=before)


def score(
    verdict: Verdict,
    *,
    epsilon: str | float | Decimal | None = None,
    rules: Rules | None = None,
    response_ms: int = 0,
) -> int:
    """What a verdict earns, in parts per 10^9; 0 for every reject code but `ok`.

    Args:
        verdict: of `verify`.
        epsilon: as it was given to `verify`.
        rules: as they were given to `verify`.
        response_ms: how long the answer took, in milliseconds; counts where the rules' `speed_weight` does.

    Raises:
        ArgumentError: an argument of the wrong type or range.

    Example:
        >>> import perturbnet
        >>> perturbnet.score(perturbnet.Verdict(perturbnet.Reject.LINF_LOW))
        0

    """
    if not isinstance(verdict, Verdict):
        raise ArgumentError("verdict", verdict, "a Verdict, as `verify` returns it")
    rules = rules or default_rules()
    took = read_count("response_ms", response_ms, least=0) or 0
    return scoring.score_verdict(verdict, epsilon=read_epsilon(epsilon, rules), rules=rules, response_ms=took)


def pose(clean: Pixels, label: str, *, epsilon: str | float | Decimal | None, rules: Rules | None) -> Task:
    """What an answer is verified against, offline: a challenge that nobody sent.

    Raises:
        ArgumentError: an epsilon that is not allowed.

    """
    rules = rules or default_rules()
    height, width, _ = clean.shape
    limit = response_limit_bytes(height, width)
    return Task(OFFLINE, NO_CHALLENGE, clean, label, read_epsilon(epsilon, rules), rules, limit)


def respond(pixels: Pixels | None, reason: str = "") -> bytes:
    """The body that answers such a challenge: with an image, or with the reason why there is none."""
    if pixels is not None:
        return encode(build_response(OFFLINE, NO_CHALLENGE, pixels))
    shown = "".join(each for each in reason if each.isprintable())[:200]
    return encode(AttackResponse(task_id=OFFLINE, challenge_id=NO_CHALLENGE, reason=shown))


def _addressed(task: Task, body: bytes) -> Task:
    """The task, as the one that a response says it answers; the verifier says what cannot be read."""
    try:
        said = parse(AttackResponse, body, max_bytes=task.max_body_bytes)
    except MessageError:
        return task
    return replace(task, task_id=said.task_id, challenge_id=said.challenge_id)


@cache
def _network_rules() -> Rules:
    return build_rules(load_settings({}).settings)
