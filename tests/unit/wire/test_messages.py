"""Messages: what is read is what was said, and what is malformed is refused by name."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import MessageError, Reject
from perturbnet.wire import canonical_json, messages
from perturbnet.wire.messages import (
    Acknowledgement,
    AttackChallenge,
    AttackResponse,
    Rules,
    encode,
    parse,
)

MIB = 1024 * 1024
DIGEST = "ab" * 32
RULES: dict[str, Any] = {
    "version": 1,
    "timeout_ms": 20_000,
    "min_linf_delta": "0.003",
    "max_linf_delta": "0.03",
    "min_ssim": "0.98",
    "min_psnr_db": "38.0",
    "linf_component_weight": "0.7",
    "rmse_component_weight": "0.3",
    "perturbation_weight": "1.0",
    "speed_weight": "0.0",
}
CHALLENGE: dict[str, Any] = {
    "task_id": "3-1041",
    "model_name": "timm/tf_efficientnetv2_l.in1k",
    "clean_image_b64": "iVBORw0KGgo=",
    "true_label": "tench, Tinca tinca",
    "epsilon": 0.0731,
    "norm_type": "Linf",
    "min_delta": 0.003,
    "timeout_seconds": 20,
    "challenge_id": DIGEST,
    "protocol_fingerprint": DIGEST,
    "rules": RULES,
}
RESPONSE: dict[str, Any] = {
    "task_id": "3-1041",
    "challenge_id": DIGEST,
    "perturbed_image_b64": "iVBORw0KGgo=",
    "pixels_sha256": DIGEST,
    "reason": None,
}
ACKNOWLEDGEMENT: dict[str, Any] = {
    "challenge_id": DIGEST,
    "body_digest": None,
    "leaf": 41,
    "leaf_hash": DIGEST,
    "reject": "linf_high",
    "score_ppb": 0,
}


def read(kind: Any, value: Any) -> Any:
    return parse(kind, json.dumps(value).encode(), max_bytes=MIB)


def fault(kind: Any, value: Any) -> str:
    with pytest.raises(MessageError) as caught:
        read(kind, value)
    assert caught.value.reject is Reject.BAD_MESSAGE
    return caught.value.detail


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Rules, RULES),
        (AttackChallenge, CHALLENGE),
        (AttackResponse, RESPONSE),
        (Acknowledgement, ACKNOWLEDGEMENT),
    ],
)
def test_every_message_survives_the_wire(kind: Any, value: dict[str, Any]) -> None:
    message = read(kind, value)
    assert parse(kind, encode(message), max_bytes=MIB) == message
    assert json.loads(encode(message)) == value


def test_the_contract_s_field_names() -> None:
    names = list(json.loads(encode(read(AttackChallenge, CHALLENGE))))
    contract = "task_id model_name clean_image_b64 true_label epsilon norm_type min_delta timeout_seconds"
    assert names[:8] == contract.split()


BAD_CHALLENGES: list[tuple[str, Any]] = [
    ("task_id", ""),
    ("task_id", "a" * 129),
    ("task_id", "a\nb"),
    ("task_id", 7),
    ("model_name", "../<script>"),
    ("clean_image_b64", ""),
    ("clean_image_b64", None),
    ("true_label", ""),
    ("true_label", "x" * 257),
    ("true_label", "red\x1b[31m"),
    ("true_label", "\ud800"),
    ("epsilon", 0),
    ("epsilon", 1.01),
    ("epsilon", "0.07"),
    ("epsilon", True),
    ("epsilon", 0.003),  # not above min_delta
    ("epsilon", 0.001),
    ("norm_type", "L2"),
    ("min_delta", -0.1),
    ("min_delta", 0.004),  # not the rules'
    ("timeout_seconds", 0),
    ("timeout_seconds", 601),
    ("timeout_seconds", 19.0),  # not the rules'
    ("challenge_id", DIGEST.upper()),
    ("challenge_id", DIGEST[:-1]),
    ("challenge_id", DIGEST + "\n"),
    ("protocol_fingerprint", None),
    ("rules", None),
    ("rules", []),
    ("unheard_of", 1),
]


@pytest.mark.parametrize(("name", "value"), BAD_CHALLENGES)
def test_a_bad_field_of_a_challenge_is_refused(name: str, value: Any) -> None:
    assert fault(AttackChallenge, {**CHALLENGE, name: value})


@pytest.mark.parametrize("name", [name for name in CHALLENGE if name != "norm_type"])
def test_a_missing_field_is_named(name: str) -> None:
    assert name in fault(AttackChallenge, {key: value for key, value in CHALLENGE.items() if key != name})


BAD_RULES: list[tuple[str, Any]] = [
    ("version", 0),
    ("version", 2**53),
    ("version", 1.0),
    ("timeout_ms", 0),
    ("timeout_ms", 600_001),
    ("min_linf_delta", 0.003),
    ("min_linf_delta", "0.03"),
    ("min_linf_delta", "-0.003"),
    ("min_linf_delta", "3e-3"),
    ("min_linf_delta", ".003"),
    ("min_linf_delta", "00.003"),
    ("min_linf_delta", "0.0030000000000"),
    ("min_linf_delta", "٠.٠٠٣"),
    ("max_linf_delta", "1.1"),
    ("min_ssim", "1.0001"),
    ("min_psnr_db", "201"),
    ("linf_component_weight", "1000000"),
    ("unheard_of", "1"),
]


@pytest.mark.parametrize(("name", "value"), BAD_RULES)
def test_a_bad_rule_is_refused(name: str, value: Any) -> None:
    assert fault(Rules, {**RULES, name: value})


@pytest.mark.parametrize(
    "pair", [("linf_component_weight", "rmse_component_weight"), ("perturbation_weight", "speed_weight")]
)
def test_weights_that_are_all_zero_are_refused(pair: tuple[str, str]) -> None:
    assert "both 0" in fault(Rules, {**RULES, **dict.fromkeys(pair, "0.0")})


@pytest.mark.parametrize(
    ("epsilon", "levels"),
    [("0.0731", [1, 2, 3, 4, 5, 6, 7]), ("0.0078", [1]), ("0.0079", [1, 2]), ("0.0039", []), ("0.001", [])],
)
def test_levels_between_the_least_change_and_the_cap(epsilon: str, levels: list[int]) -> None:
    assert Rules(**RULES).levels(epsilon) == levels


def test_levels_are_exact_at_the_edges() -> None:
    rules = Rules(**{**RULES, "min_linf_delta": "0.2", "max_linf_delta": "0.4"})
    assert rules.levels("1") == list(range(51, 103))  # 0.2 = 51/255 and 0.4 = 102/255, both included


@pytest.mark.parametrize(
    "change",
    [
        {"pixels_sha256": None},
        {"perturbed_image_b64": None},
        {"perturbed_image_b64": ""},
        {"pixels_sha256": "AB" * 32},
        {"reason": "x" * 201},
        {"reason": "a\x00b"},
        {"score": 1},
        {"task_id": None},
    ],
)
def test_a_bad_response_is_refused(change: dict[str, Any]) -> None:
    assert fault(AttackResponse, {**RESPONSE, **change})


def test_a_response_without_an_image_may_say_why() -> None:
    nothing = {"task_id": "1", "challenge_id": DIGEST, "reason": "no adversary below 7/255"}
    assert read(AttackResponse, nothing).perturbed_image_b64 is None


@pytest.mark.parametrize(
    "change",
    [
        {"reject": "unheard_of"},
        {"score_ppb": -1},
        {"score_ppb": 0.5},
        {"leaf_hash": None},
        {"body_digest": ""},
    ],
)
def test_a_bad_acknowledgement_is_refused(change: dict[str, Any]) -> None:
    assert fault(Acknowledgement, {**ACKNOWLEDGEMENT, **change})


def test_the_size_is_checked_first() -> None:
    with pytest.raises(MessageError) as caught:
        parse(AttackResponse, b"[" * 1001, max_bytes=1000)
    assert caught.value.reject is Reject.BODY_TOO_LARGE


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    kinds: list[Any] = [AttackChallenge, AttackResponse, Acknowledgement]
    for kind in kinds:
        with pytest.raises(MessageError):
            parse(kind, data, max_bytes=1000)


@given(st.data())
def test_a_changed_message_is_refused_by_name_or_is_still_valid(data: st.DataObject) -> None:
    body = bytearray(json.dumps(CHALLENGE).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = parse(AttackChallenge, bytes(body), max_bytes=MIB)
    except MessageError:
        return
    assert parse(AttackChallenge, encode(message), max_bytes=MIB) == message


def payload(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "netuid": 7,
        "validator": "5Validator",
        "challenge_id": DIGEST,
        "nonce": "1700000000000000000",
        "body_sha256": "cd" * 32,
        "pixels_sha256": "ef" * 32,
    }
    return messages.response_payload(**{**fields, **changes})


def test_the_signed_payload_is_pinned() -> None:
    parts = [
        f'"body_sha256":"{"cd" * 32}"',
        f'"challenge_id":"{DIGEST}"',
        '"netuid":7',
        '"nonce":"1700000000000000000"',
        f'"pixels_sha256":"{"ef" * 32}"',
        '"validator":"5Validator"',
    ]
    assert payload() == ("{" + ",".join(parts) + "}").encode()
    assert canonical_json.decode(payload(pixels_sha256=None)) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"netuid": 8},
        {"validator": "5Other"},
        {"challenge_id": "00" * 32},
        {"nonce": "1700000000000000001"},
        {"body_sha256": "00" * 32},
        {"pixels_sha256": None},
    ],
)
def test_the_signed_payload_holds_every_part(change: dict[str, Any]) -> None:
    assert payload(**change) != payload()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (11, 11), (160, 213), (500, 375), (2000, 3000)])
def test_the_limit_of_a_response_holds_an_incompressible_png(height: int, width: int) -> None:
    filtered = height * (1 + 3 * width)
    noise = hashlib.shake_256(b"noise").digest(filtered)
    stream = len(zlib.compress(noise, 9))
    chunks = 12 * (stream // 8192 + 1)
    png = 8 + 25 + stream + chunks + 12
    body = 4 * ((png + 2) // 3) + len(json.dumps({**RESPONSE, "task_id": "x" * 128, "reason": "r" * 200}))
    limit = messages.response_limit_bytes(height, width)
    assert body <= limit
    assert limit < 1.02 * body + 12_000
