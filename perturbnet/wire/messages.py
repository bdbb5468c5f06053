"""The wire: what a validator and a miner say to each other, and how the bytes are read.

Rules
- Everything that arrives is hostile. `parse` caps the size, then reads the JSON as `hostile_json` allows it,
  and only then builds a message, whose every field has a length and a range.
- Unknown fields are refused. A new field is a new `PROTOCOL_VERSION`.
- Limits and weights travel as decimal text, because they are compared as rationals and 0.003 has no exact
  float. `epsilon`, `min_delta` and `timeout_seconds` keep the contract's form, numbers; they must agree with
  `rules`.
- The miner signs `response_payload` with its hotkey, under the domain `RESPONSE_DOMAIN`. A receipt keeps that
  signature, so a stranger can check later that this miner gave this answer to this validator's challenge.

Source: the contract of the public Perturb subnet (field names); RFC 8785 for the signed payload.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from perturbnet.errors import MessageError, Reject
from perturbnet.wire import canonical_json
from perturbnet.wire.digests import DIGEST_PATTERN, sha256_hex
from perturbnet.wire.untrusted_json import read_json

PROTOCOL_VERSION = 2  # 2: an acknowledgement names the place of its leaf
CHALLENGE_PATH = "/AttackChallenge"
ACKNOWLEDGEMENT_PATH = "/Acknowledgement"
RESPONSE_DOMAIN = "perturb/response/1"
SIGNATURE_HEADER = "X-Perturb-Signature"  # of the response, hex with 0x
PROTOCOL_HEADER = "X-Perturb-Protocol"  # of the response, decimal PROTOCOL_VERSION

_SIGNATURE = re.compile(r"0x[0-9a-f]{128}")
MAX_IMAGE_CHARACTERS = 32 * 1024 * 1024
MAX_TIMEOUT_MS = 600_000


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST_PATTERN}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/@-]{1,128}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_printable)]
Reason = Annotated[str, StringConstraints(max_length=200), AfterValidator(_printable)]
DecimalText = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,12})?$")]
ImageText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_IMAGE_CHARACTERS)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Rules(_Message):
    """What a response is judged by: decimal text; units of full scale (1 = 255 levels), dB, or none."""

    version: int = Field(ge=1, le=canonical_json.MAX_SAFE_INTEGER)
    timeout_ms: int = Field(ge=1, le=MAX_TIMEOUT_MS)
    min_linf_delta: DecimalText
    max_linf_delta: DecimalText
    min_ssim: DecimalText
    min_psnr_db: DecimalText
    linf_component_weight: DecimalText
    rmse_component_weight: DecimalText
    perturbation_weight: DecimalText
    speed_weight: DecimalText

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = Decimal(self.min_linf_delta), Decimal(self.max_linf_delta)
        if not low < high <= 1:
            raise ValueError(f"expected min_linf_delta {low} < max_linf_delta {high} <= 1")
        if Decimal(self.min_ssim) > 1:
            raise ValueError(f"min_ssim {self.min_ssim}: expected 0 to 1")
        if Decimal(self.min_psnr_db) > 200:
            raise ValueError(f"min_psnr_db {self.min_psnr_db}: expected 0 to 200")
        if Decimal(self.linf_component_weight) + Decimal(self.rmse_component_weight) == 0:
            raise ValueError(
                "linf_component_weight and rmse_component_weight are both 0: expected one above 0"
            )
        if Decimal(self.perturbation_weight) + Decimal(self.speed_weight) == 0:
            raise ValueError("perturbation_weight and speed_weight are both 0: expected one above 0")
        return self

    def levels(self, epsilon: str) -> list[int]:
        """Every L-inf step k with min_linf_delta <= k/255 <= min(epsilon, max_linf_delta), smallest first."""
        low, cap = Decimal(self.min_linf_delta) * 255, min(Decimal(epsilon), Decimal(self.max_linf_delta))
        high = cap * 255
        return [level for level in range(1, 256) if low <= level <= high]


class AttackChallenge(_Message):
    """One image to attack. The first eight fields are the public contract's; the rest say what binds them."""

    task_id: Name
    model_name: Name
    clean_image_b64: ImageText  # PNG
    true_label: Label
    epsilon: float = Field(gt=0, le=1)
    norm_type: Literal["Linf"] = "Linf"
    min_delta: float = Field(ge=0, lt=1)
    timeout_seconds: float = Field(gt=0, le=MAX_TIMEOUT_MS / 1000)
    challenge_id: Digest
    protocol_fingerprint: Digest
    rules: Rules

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_delta != float(self.rules.min_linf_delta):
            raise ValueError(f"min_delta {self.min_delta}: expected the rules' {self.rules.min_linf_delta}")
        if self.epsilon <= self.min_delta:
            raise ValueError(f"epsilon {self.epsilon}: expected more than min_delta {self.min_delta}")
        if round(self.timeout_seconds * 1000) != self.rules.timeout_ms:
            raise ValueError(f"timeout_seconds {self.timeout_seconds}: expected {self.rules.timeout_ms} ms")
        return self


class AttackResponse(_Message):
    """A miner's answer: an image and the digest of its pixels (`images.pixel_digest`), or neither and why."""

    task_id: Name
    challenge_id: Digest
    perturbed_image_b64: ImageText | None = None  # PNG
    pixels_sha256: Digest | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.perturbed_image_b64 is None) != (self.pixels_sha256 is None):
            raise ValueError("perturbed_image_b64 and pixels_sha256: expected both, or neither")
        return self


class Acknowledgement(_Message):
    """What became of a response: the digest of its body (if one came), its code and score; and a promise.

    The promise: the receipt is leaf number `leaf` of the validator's log, and its hash is `leaf_hash`. Every
    checkpoint of more than `leaf` leaves keeps it or breaks it.
    """

    challenge_id: Digest
    body_digest: Digest | None
    leaf: int = Field(ge=0, le=canonical_json.MAX_SAFE_INTEGER)
    leaf_hash: Digest
    reject: Annotated[Reject, Field(strict=False)]
    score_ppb: int = Field(ge=0, le=canonical_json.MAX_SAFE_INTEGER)


AnyMessage = TypeVar("AnyMessage", bound=_Message)


def encode(message: BaseModel) -> bytes:
    """Return the message as compact UTF-8 JSON, fields in their written order."""
    return message.model_dump_json().encode()


def parse(kind: type[AnyMessage], data: bytes, *, max_bytes: int) -> AnyMessage:
    """Build a message of `kind` from hostile bytes.

    Raises:
        MessageError: `Reject.BODY_TOO_LARGE` above `max_bytes`, else `Reject.BAD_MESSAGE` with the first
            fault.

    """
    if len(data) > max_bytes:
        raise MessageError(Reject.BODY_TOO_LARGE, f"{len(data)} bytes; at most {max_bytes} are allowed")
    value = read_json(data)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise MessageError(Reject.BAD_MESSAGE, f"{kind.__name__}: {_first_fault(error)}") from None


def response_payload(
    *, netuid: int, validator: str, challenge_id: str, nonce: str, body_sha256: str, pixels_sha256: str | None
) -> bytes:
    """Return the canonical bytes a miner signs: whom it answers, what was asked, and what it says.

    `nonce` is the decimal nonce of the request that is answered, so no response can be used twice.
    """
    return canonical_json.encode(
        {
            "body_sha256": body_sha256,
            "challenge_id": challenge_id,
            "netuid": netuid,
            "nonce": nonce,
            "pixels_sha256": pixels_sha256,
            "validator": validator,
        }
    )


def read_signature(text: str) -> bytes:
    """The 64 bytes of a signature in hex with 0x; empty, which no signature is, where it has another form."""
    return bytes.fromhex(text[2:]) if _SIGNATURE.fullmatch(text) else b""


def body_digest(body: bytes) -> str:
    """Hex SHA-256 of a message's bytes as they travelled."""
    return sha256_hex(body)


def response_limit_bytes(height: int, width: int) -> int:
    """Return the most bytes an honest response to an image of this size can have.

    A PNG of h * (1 + 3w) filtered bytes that do not compress at all (stored blocks and 8 KiB IDAT chunks add
    less than 1/256), then base64, then the message around it.
    """
    filtered = height * (1 + 3 * width)
    png = filtered + filtered // 256 + 4096
    return 4 * ((png + 2) // 3) + 4096


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part)[:40] for part in fault["loc"]) or "message"
    value = repr(fault["input"])[:60] if fault["type"] != "value_error" else ""
    return f"{where}: {fault['msg']}" + (f"; got {value}" if value else "")
