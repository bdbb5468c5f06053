"""From the bytes a miner sent to a verdict: the numbered checks, the first that fails names the reject code.

    1. the body's size, then the message: the protocol's JSON object, for this task, with an image
    2. base64, strict
    3. PNG, strict, of the clean image's size; the pixels are those the miner signed
    4. L-inf: min_linf_delta <= linf_u8 / 255 <= min(epsilon, max_linf_delta), as rationals
    5. SSIM >= min_ssim
    6. PSNR >= min_psnr_db
    7. labels, by class text: label(clean) is the challenge's, label(adversarial) is another
    8. numerical health: an engine that saturated makes the verdict `indeterminate`

The numbers are the order, but for 8, which is looked at before 7: the label of an engine that saturated says
nothing, neither "changed" nor "unchanged".

A verdict is a pure function of (clean pixels, response body, challenge, model, rules). The validator and the
auditor call the same functions. Checks 1 to 6 cost no model (`inspect`); 7 and 8 run in batches, and
identical pixels once (`judge`).

Source: docs/verification-spec.md states the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal

from perturbnet.errors import MessageError, Refused, Reject
from perturbnet.rules.classification import Classification, Engine
from perturbnet.rules.distortion import (
    Distortion,
    linf_at_least,
    linf_at_most,
    measure,
    psnr_at_least,
    psnr_micro_db,
    ssim_at_least,
    to_ppb,
)
from perturbnet.wire import canonical_json
from perturbnet.wire.images import Pixels, decode_base64, decode_png, pixel_digest
from perturbnet.wire.messages import AttackResponse, Rules, parse

NOT_REACHED = -1


@dataclass(frozen=True)
class Task:
    """What a response is verified against: clean uint8 (H, W, 3), the label to flip, epsilon as decimal text.

    `max_body_bytes` is part of it; `messages.response_limit_bytes` gives it from the clean image's size.
    """

    task_id: str
    challenge_id: str
    clean: Pixels
    true_label: str
    epsilon: str
    rules: Rules
    max_body_bytes: int


@dataclass(frozen=True)
class Verdict:
    """What the checks found, in integers and text. A field that no check reached is empty or -1.

    `detail` is for the log: it is no part of a receipt or of `encode`.
    """

    reject: Reject
    detail: str = ""
    height: int = NOT_REACHED
    width: int = NOT_REACHED
    adversarial_pixels: str = ""
    label_before: str = ""
    index_before: int = NOT_REACHED
    label_after: str = ""
    index_after: int = NOT_REACHED
    logits_before: str = ""
    logits_after: str = ""
    linf_u8: int = NOT_REACHED
    changed: int = NOT_REACHED
    sum_sq: int = NOT_REACHED
    ssim_ppb: int = NOT_REACHED
    psnr_micro_db: int = NOT_REACHED
    saturated: int = NOT_REACHED

    def encode(self) -> bytes:
        """Canonical JSON (RFC 8785) of everything but `detail`: the bytes that two machines must share."""
        fields = asdict(self)
        del fields["detail"]
        return canonical_json.encode({**fields, "reject": self.reject.value})


@dataclass(frozen=True)
class Inspected:
    """A response that passed checks 1 to 6: only the model's word is missing."""

    pixels: Pixels
    verdict: Verdict  # its `reject` is not decided yet


def verify(task: Task, body: bytes, engine: Engine, *, signed_pixels: str | None = None) -> Verdict:
    """All checks on one response. Raises nothing that `body` could cause."""
    found = inspect(task, body, signed_pixels=signed_pixels)
    if isinstance(found, Verdict):
        return found
    clean, adversarial = engine.classify([task.clean, found.pixels])
    return judge(task, found, clean, adversarial)


def verify_round(
    task: Task,
    bodies: Sequence[tuple[bytes, str | None]],
    engine: Engine,
    clean: Classification | None = None,
) -> list[Verdict]:
    """All checks on the responses of a round: one clean pass, identical pixels once.

    Args:
        task: the round's challenge.
        bodies: each response's body and the pixel digest its miner signed.
        engine: the judge.
        clean: the clean image's classification where it is known already.

    """
    found = [inspect(task, body, signed_pixels=signed) for body, signed in bodies]
    return judge_inspected(task, found, engine, clean)


def judge_inspected(
    task: Task,
    found: Sequence[Inspected | Verdict],
    engine: Engine,
    clean: Classification | None = None,
) -> list[Verdict]:
    """Checks 7 and 8 for a round: what is a verdict already stays one; identical pixels are seen once."""
    passed = {item.verdict.adversarial_pixels: item.pixels for item in found if isinstance(item, Inspected)}
    if not passed:
        return [item for item in found if isinstance(item, Verdict)]
    before = clean or engine.classify([task.clean])[0]
    after = dict(zip(passed, engine.classify(list(passed.values())), strict=True))

    def finish(item: Inspected | Verdict) -> Verdict:
        if isinstance(item, Verdict):
            return item
        return judge(task, item, before, after[item.verdict.adversarial_pixels])

    return [finish(item) for item in found]


def inspect(task: Task, body: bytes, *, signed_pixels: str | None = None) -> Inspected | Verdict:
    """Checks 1 to 6."""
    pixels = read_pixels(task, body, signed_pixels=signed_pixels)
    return pixels if isinstance(pixels, Verdict) else inspect_pixels(task, pixels)


def read_pixels(task: Task, body: bytes, *, signed_pixels: str | None = None) -> Pixels | Verdict:
    """Checks 1 to 3: the adversarial pixels, or why there are none."""
    try:
        return _read_pixels(task, body, signed_pixels)
    except Refused as refused:
        return Verdict(refused.reject, refused.detail)


def inspect_pixels(task: Task, pixels: Pixels) -> Inspected | Verdict:
    """Checks 4 to 6, for pixels of the clean image's size."""
    distortion = measure(task.clean, pixels)
    verdict = _record(pixel_digest(pixels), distortion)
    reject = _gate(task, distortion)  # 4, 5, 6
    if reject is not Reject.OK:
        return replace(verdict, reject=reject, detail=_describe(distortion))
    return Inspected(pixels, verdict)


def judge(task: Task, found: Inspected, clean: Classification, adversarial: Classification) -> Verdict:
    """Checks 7 and 8, from the engine's two classifications."""
    verdict = replace(
        found.verdict,
        label_before=clean.text,
        index_before=clean.index,
        logits_before=clean.logits_digest,
        label_after=adversarial.text,
        index_after=adversarial.index,
        logits_after=adversarial.logits_digest,
        saturated=clean.saturated + adversarial.saturated,
    )
    if not (clean.healthy and adversarial.healthy):  # 8
        return replace(verdict, reject=Reject.INDETERMINATE, detail=f"saturated {verdict.saturated} times")
    if clean.text != task.true_label:  # 7
        detail = f"clean image is {clean.text!r}, the challenge says {task.true_label!r}"
        return replace(verdict, reject=Reject.CLEAN_MISLABELLED, detail=detail)
    if adversarial.text == clean.text:
        return replace(verdict, reject=Reject.LABEL_UNCHANGED, detail=f"still {clean.text!r}")
    return replace(verdict, reject=Reject.OK)


def _read_pixels(task: Task, body: bytes, signed_pixels: str | None) -> Pixels:
    response = _read_message(task, body)
    data = decode_base64(response.perturbed_image_b64 or "")
    height, width, _ = task.clean.shape
    pixels = decode_png(data, height=height, width=width)
    digest = pixel_digest(pixels)
    for claimed in (signed_pixels, response.pixels_sha256):
        if claimed is not None and claimed != digest:
            raise MessageError(Reject.PIXELS_MISMATCH, f"signed {claimed}, the image has {digest}")
    return pixels


def _read_message(task: Task, body: bytes) -> AttackResponse:
    """Check 1."""
    response = parse(AttackResponse, body, max_bytes=task.max_body_bytes)
    if (response.task_id, response.challenge_id) != (task.task_id, task.challenge_id):
        expected, got = f"{task.task_id} {task.challenge_id}", f"{response.task_id} {response.challenge_id}"
        raise MessageError(Reject.BAD_MESSAGE, f"expected task {expected}, got {got}")
    if response.perturbed_image_b64 is None:
        raise MessageError(Reject.NO_IMAGE, "the miner found none")
    return response


def _gate(task: Task, distortion: Distortion) -> Reject:
    """Checks 4 to 6."""
    rules = task.rules
    cap = min(Decimal(task.epsilon), Decimal(rules.max_linf_delta))
    if not linf_at_least(distortion.linf_u8, rules.min_linf_delta):
        return Reject.LINF_LOW
    if not linf_at_most(distortion.linf_u8, cap):
        return Reject.LINF_HIGH
    if not ssim_at_least(distortion.ssim, rules.min_ssim):
        return Reject.SSIM_LOW
    if not psnr_at_least(distortion.sum_sq, distortion.height, distortion.width, rules.min_psnr_db):
        return Reject.PSNR_LOW
    return Reject.OK


def _record(digest: str, distortion: Distortion) -> Verdict:
    micro_db = psnr_micro_db(distortion.sum_sq, distortion.height, distortion.width)
    return Verdict(
        Reject.OK,
        height=distortion.height,
        width=distortion.width,
        adversarial_pixels=digest,
        linf_u8=distortion.linf_u8,
        changed=distortion.changed,
        sum_sq=distortion.sum_sq,
        ssim_ppb=to_ppb(distortion.ssim),
        psnr_micro_db=NOT_REACHED if micro_db is None else micro_db,
    )


def _describe(distortion: Distortion) -> str:
    return f"L-inf {distortion.linf_u8}/255, {distortion.changed} values changed, SSIM {distortion.ssim:.6f}"
