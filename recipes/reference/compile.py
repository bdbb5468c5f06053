"""Compile the pinned reference weights, pack the artefact into the package, pin its digest and golden logits.

Run after `train.py`. Anyone gets the same artefact: `perturb model compile --profile reference --out FILE`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from perturbnet.classifier.canonical.profiles import SHIPPED, build_engine, compile_profile, pack
from perturbnet.classifier.canonical.self_test import digest_golden
from perturbnet.runtime.artifacts import write_durably

PINS = Path(__file__).parents[2] / "perturbnet" / "data" / "reference.json"


def main() -> None:
    """Write `data/reference.model.xz` and the `artefact` section of the pins."""
    with tempfile.TemporaryDirectory() as folder:
        artefact = compile_profile("reference", cache_dir=Path(folder))
    data = artefact.encode()
    digest = hashlib.sha256(data).hexdigest()
    golden = digest_golden(build_engine(artefact, digest, device="cpu"))
    if digest_golden(build_engine(artefact, digest, integer=True)) != golden:
        raise SystemExit("the two engines differ; nothing was written")
    packed = pack(data)
    write_durably(PINS.parent / SHIPPED, packed)
    pins = json.loads(PINS.read_text()) | {"artefact": {"sha256": digest, "golden": golden}}
    write_durably(PINS, (json.dumps(pins, indent=2, sort_keys=True) + "\n").encode())
    print(f"{SHIPPED}: {len(packed)} bytes, unpacked {len(data)}, sha256 {digest}")


if __name__ == "__main__":
    main()
