"""What several benches work on: a folder that goes with the process, the network's rules, a receipt."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.wire.messages import Rules

RULES = Rules(
    version=1,
    timeout_ms=20_000,
    min_linf_delta="0.003",
    max_linf_delta="0.03",
    min_ssim="0.98",
    min_psnr_db="38.0",
    linf_component_weight="0.7",
    rmse_component_weight="0.3",
    perturbation_weight="1.0",
    speed_weight="0.0",
)


def scratch_folder(bench: str) -> Path:
    """A new folder; it is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{bench}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def accepted_receipt(digest: str, **facts: str | int) -> ReceiptLeaf:
    """A receipt of an answer that fools the model; `facts` are the fields that differ from bench to bench."""
    common: dict[str, Any] = {
        "body": digest,
        "signed_pixels": digest,
        "reject": "ok",
        "adversarial_pixels": digest,
        "label_before": "golden retriever",
        "index_before": 207,
        "label_after": "cocker spaniel, English cocker spaniel, cocker",
        "index_after": 219,
        "logits_before": digest,
        "logits_after": digest,
        "ssim_ppb": 991_234_567,
        "psnr_micro_db": 45_123_456,
        "saturated": 0,
        "score_ppb": 712_345_678,
        "same_as": -1,
    }
    return ReceiptLeaf(**common | facts)
