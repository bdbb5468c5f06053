"""Canonical JSON against plain `json`: what a leaf's checks cost. A busy validator writes 72,000 a day."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from benchmarks.harness import Case
from perturbnet.wire import canonical_json
from perturbnet.wire.canonical_json import Json

# A receipt's shape (design of the ledger): digests, labels, and the measured numbers as integers.
RECEIPT: Json = {
    "kind": "receipt",
    "challenge_id": "c1" * 32,
    "nonce": "5e" * 16,
    "miner": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
    "body_sha256": "ab" * 32,
    "signature": "cd" * 64,
    "clean_pixels": "01" * 32,
    "adversarial_pixels": "23" * 32,
    "logits": {"clean": "45" * 32, "adversarial": "67" * 32},
    "label": {"before": [281, "tabby, tabby cat"], "after": [282, "tiger cat"]},
    "linf_u8": 1,
    "sum_sq": 431_904,
    "ssim_e9": 999_812_345,
    "psnr_micro_db": 48_130_803,
    "saturated": 0,
    "response_ms": 1_834,
    "reject": "ok",
    "score_e9": 981_402_113,
}


def cases() -> Sequence[Case]:
    """Both directions, on one receipt."""
    data = canonical_json.encode(RECEIPT)
    return (
        Case(
            "encode",
            lambda: functools.partial(canonical_json.encode, RECEIPT),
            lambda: _dump,
            "json.dumps sorted",
        ),
        Case(
            "decode",
            lambda: functools.partial(canonical_json.decode, data),
            lambda: lambda: json.loads(data),
            "json.loads",
        ),
    )


def _dump() -> bytes:
    return json.dumps(RECEIPT, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
