"""From the bytes a miner sent to a verdict: the numbered checks, the first that fails names the reject code.

    1. the body's size, then the message: the protocol's JSON object, for this task; then, where one is
       demanded, the miner's signature over this very answer; then that there is an image
    2. base64, strict
    3. PNG, strict, of the clean image's size; the pixels are those the miner signed
    4. L-inf: min_linf_delta <= linf_u8 / 255 <= min(epsilon, max_linf_delta), as rationals
    5. SSIM >= min_ssim
    6. PSNR >= min_psnr_db
    7. labels, by class text: label(clean) is the challenge's, label(adversarial) is another
    8. numerical health: an engine that saturated makes the verdict `indeterminate`

The numbers are the order, but for 8, which is looked at before 7: the label of an engine that saturated says
nothing, neither "changed" nor "unchanged".

A verdict is a pure function of (clean pixels, response body, challenge, model, rules). Everybody runs the
checks through one object, `Verification`: the validator stage by stage on its threads (`rounds.judging`),
auditor, evaluation and miner in one call. A body is parsed once, its pixels are hashed once, and identical
pixels are measured and classified once.

Source: docs/verification-spec.md states the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import NamedTuple, Protocol

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
)
from perturbnet.wire import canonical_json, keys
from perturbnet.wire.images import Pixels, decode_base64, decode_png, pixel_digest
from perturbnet.wire.messages import (
    RESPONSE_DOMAIN,
    AttackResponse,
    Rules,
    parse,
    read_signature,
    response_payload,
)
from perturbnet.wire.units import to_ppb

NOT_REACHED = -1


@dataclass(frozen=True)
class Task:
    """What a response is verified against: clean uint8 (H, W, 3), the label to flip, epsilon as decimal text.

    `max_body_bytes` is part of it; `messages.response_limit_bytes` gives it from the clean image's size.
    `netuid` and `validator` (ss58) are what a miner's signature covers besides its answer; without them no
    signature holds.
    """

    task_id: str
    challenge_id: str
    clean: Pixels
    true_label: str
    epsilon: str
    rules: Rules
    max_body_bytes: int
    netuid: int = NOT_REACHED
    validator: str = ""


class Signed(Protocol):
    """The fields of an answer that its signature is checked by; a noted arrival has them, and a receipt."""

    @property
    def hotkey(self) -> str:
        """Who must have signed, ss58."""

    @property
    def nonce(self) -> str:
        """Of the request that was answered, decimal."""

    @property
    def body(self) -> str:
        """Hex SHA-256 of the body."""

    @property
    def signature(self) -> str:
        """Hex with 0x."""


class Image(NamedTuple):
    """Pixels that passed checks 1 to 3, with their digest; `signed_pixels` as in `Verdict`."""

    digest: str
    pixels: Pixels
    signed_pixels: str | None = None

    @classmethod
    def of(cls, pixels: Pixels, signed_pixels: str | None = None) -> Image:
        """Hash pixels that did not come in a body."""
        return cls(pixel_digest(pixels), pixels, signed_pixels)


@dataclass(frozen=True)
class Verdict:
    """What the checks found, in integers and text. A field that no check reached is empty or -1.

    `detail` is for the log. `signed_pixels` is for the receipt: the digest of pixels that the miner's
    verified signature covers, empty where it says there are none, None where no signature was verified.
    Neither is part of `encode`.
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
    signed_pixels: str | None = None

    def encode(self) -> bytes:
        """Canonical JSON (RFC 8785) of the verdict: the bytes that two machines must share."""
        fields = asdict(self)
        del fields["detail"], fields["signed_pixels"]
        return canonical_json.encode({**fields, "reject": self.reject.value})


def verify(
    task: Task,
    body: bytes,
    engine: Engine,
    *,
    clean: Classification | None = None,
    signed_pixels: str | None = None,
) -> Verdict:
    """All checks on one response. Raises nothing that `body` could cause.

    Args:
        task: the challenge that is answered.
        body: the response as it arrived.
        engine: the judge.
        clean: the clean image's classification where it is known already.
        signed_pixels: the digest that the miner is known to have signed, where that was checked before.

    """
    verification = Verification(task, engine, clean)
    return verification.conclude([verification.read(body, signed_pixels=signed_pixels)])[0]


class Verification:
    """The numbered checks on the answers to one task. The stages may run on different threads.

    `read` (1 to 3), `measure` (4 to 6), `label` and `judge` (7 and 8) are the stages; `conclude` runs all
    that are left, for answers that were read.
    """

    def __init__(self, task: Task, engine: Engine, clean: Classification | None = None) -> None:
        """Verify answers to `task`; `clean` is the clean image's classification where it is known already."""
        self.task, self.engine, self.clean = task, engine, clean

    def read(
        self, body: bytes, *, signed: Signed | None = None, signed_pixels: str | None = None
    ) -> Image | Verdict:
        """Checks 1 to 3: the image in a body, or why there is none.

        Args:
            body: the response as it arrived.
            signed: the miner's signature, to be verified over this body.
            signed_pixels: the digest that the miner is known to have signed, where that was checked before.

        """
        verified: str | None = None
        try:
            response = _read_message(self.task, body)
            if signed is not None:
                verified = _verified_pixels(self.task, response, signed)
            pixels = _read_pixels(self.task, response)
            digest = pixel_digest(pixels)
            _require_signed(digest, signed_pixels, response.pixels_sha256)
        except Refused as refused:
            return Verdict(refused.reject, refused.detail, signed_pixels=verified)
        return Image(digest, pixels, verified)

    def measure(self, image: Image) -> Verdict:
        """Checks 4 to 6, for pixels of the clean image's size; `Reject.OK` means: so far."""
        distortion = measure(self.task.clean, image.pixels)
        verdict = _record(image, distortion)
        reject = _gate(self.task, distortion)  # 4, 5, 6
        detail = "" if reject is Reject.OK else _describe(distortion)
        return replace(verdict, reject=reject, detail=detail)

    def label(self, images: Sequence[Image]) -> list[Classification]:
        """The model's answer to each image, in one pass; the clean image goes first until it is known."""
        first = [] if self.clean else [self.task.clean]
        answers = self.engine.classify([*first, *(image.pixels for image in images)])
        self.clean = self.clean or answers[0]
        return answers[len(first) :]

    def judge(self, measured: Verdict, adversarial: Classification) -> Verdict:
        """Checks 7 and 8 on an image that passed the others, once the clean image is labelled."""
        clean, task = self.clean, self.task
        if clean is None:
            raise AssertionError("the first pass labels the clean image")
        verdict = replace(
            measured,
            label_before=clean.text,
            index_before=clean.index,
            logits_before=clean.logits_digest,
            label_after=adversarial.text,
            index_after=adversarial.index,
            logits_after=adversarial.logits_digest,
            saturated=clean.saturated + adversarial.saturated,
        )
        if not (clean.healthy and adversarial.healthy):  # 8
            detail = f"saturated {verdict.saturated} times"
            return replace(verdict, reject=Reject.INDETERMINATE, detail=detail)
        if clean.text != task.true_label:  # 7
            detail = f"clean image is {clean.text!r}, the challenge says {task.true_label!r}"
            return replace(verdict, reject=Reject.CLEAN_MISLABELLED, detail=detail)
        if adversarial.text == clean.text:
            return replace(verdict, reject=Reject.LABEL_UNCHANGED, detail=f"still {clean.text!r}")
        return verdict

    def conclude(self, answers: Sequence[Image | Verdict]) -> list[Verdict]:
        """All checks that are left, in the order of `answers`: what is a verdict already stays one."""
        images = {item.digest: item for item in answers if isinstance(item, Image)}
        measured = {digest: self.measure(image) for digest, image in images.items()}
        passed = {digest: images[digest] for digest, found in measured.items() if found.reject is Reject.OK}
        labels = self.label(list(passed.values())) if passed else []
        judged = {
            digest: self.judge(measured[digest], label) for digest, label in zip(passed, labels, strict=True)
        }
        return [_verdict_of(item, measured | judged) for item in answers]


def signature_holds(
    netuid: int, validator: str, challenge_id: str, signed: Signed, pixels_sha256: str | None
) -> bool:
    """Whether the miner signed this answer to this validator's challenge, with these pixels' digest."""
    payload = response_payload(
        netuid=netuid,
        validator=validator,
        challenge_id=challenge_id,
        nonce=signed.nonce,
        body_sha256=signed.body,
        pixels_sha256=pixels_sha256,
    )
    return keys.verify(signed.hotkey, RESPONSE_DOMAIN, payload, read_signature(signed.signature))


def _verdict_of(item: Image | Verdict, verdicts: Mapping[str, Verdict]) -> Verdict:
    if isinstance(item, Verdict):
        return item
    return replace(verdicts[item.digest], signed_pixels=item.signed_pixels)


def _read_message(task: Task, body: bytes) -> AttackResponse:
    """Check 1."""
    response = parse(AttackResponse, body, max_bytes=task.max_body_bytes)
    if (response.task_id, response.challenge_id) != (task.task_id, task.challenge_id):
        expected, got = f"{task.task_id} {task.challenge_id}", f"{response.task_id} {response.challenge_id}"
        raise MessageError(Reject.BAD_MESSAGE, f"expected task {expected}, got {got}")
    return response


def _verified_pixels(task: Task, response: AttackResponse, signed: Signed) -> str:
    """Check 1 goes on: the digest of pixels that the miner signed, empty where it found no image."""
    asked = task.netuid, task.validator, task.challenge_id
    if not signature_holds(*asked, signed, response.pixels_sha256):
        raise MessageError(Reject.BAD_SIGNATURE, f"the signature is not {signed.hotkey}'s over this response")
    return response.pixels_sha256 or ""


def _read_pixels(task: Task, response: AttackResponse) -> Pixels:
    """Checks 2 and 3, after the end of check 1: that there is an image."""
    if response.perturbed_image_b64 is None:
        raise MessageError(Reject.NO_IMAGE, response.reason or "the miner found none")
    height, width, _ = task.clean.shape
    return decode_png(decode_base64(response.perturbed_image_b64), height=height, width=width)


def _require_signed(digest: str, *claims: str | None) -> None:
    """Check 3 goes on: the pixels are those that the message names and the miner signed."""
    for claimed in claims:
        if claimed is not None and claimed != digest:
            raise MessageError(Reject.PIXELS_MISMATCH, f"signed {claimed}, the image has {digest}")


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


def _record(image: Image, distortion: Distortion) -> Verdict:
    micro_db = psnr_micro_db(distortion.sum_sq, distortion.height, distortion.width)
    return Verdict(
        Reject.OK,
        height=distortion.height,
        width=distortion.width,
        adversarial_pixels=image.digest,
        linf_u8=distortion.linf_u8,
        changed=distortion.changed,
        sum_sq=distortion.sum_sq,
        ssim_ppb=to_ppb(distortion.ssim),
        psnr_micro_db=NOT_REACHED if micro_db is None else micro_db,
        signed_pixels=image.signed_pixels,
    )


def _describe(distortion: Distortion) -> str:
    return f"L-inf {distortion.linf_u8}/255, {distortion.changed} values changed, SSIM {distortion.ssim:.6f}"
