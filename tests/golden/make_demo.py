"""Record a demo's published log, with what its audit needs, as golden files.

    perturb localnet --seed golden --keep NETWORK
    python -m tests.golden.make_demo NETWORK

Writes `tests/golden/demo`: the published log without superseded tiles, the newest anchor as it stands on
chain, the acknowledgements and answers that the miners kept, and the report of the log's audit. A run is not
repeatable (times, signatures and nonces differ), so the files are recorded once for each format of the log
and never written again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "demo"
PERTURB = [sys.executable, "-m", "perturbnet.cli"]


def record(network: Path, folder: Path = FOLDER) -> None:
    """Copy what `perturb localnet` left in `network`, and audit the copy."""
    shutil.copytree(network / "bundle", folder / "bundle", ignore=superseded)
    hotkey = (folder / "bundle" / "checkpoint").read_text().splitlines()[0].rsplit("/", 1)[1]
    chain = ["env", "NETWORK=local", f"PERTURB_LOCAL_CHAIN={network / 'chain.sqlite'}", *PERTURB]
    who = ["--hotkey", hotkey, "--netuid", "1"]
    subprocess.run([*chain, "audit", "anchors", *who, "--out", folder / "anchors.json"], check=True)
    for miner in sorted(network.glob("miner-*")):
        if (miner / "acknowledgements.jsonl").exists():
            keep = shutil.ignore_patterns("nonces*")
            shutil.copytree(miner, folder / miner.name, ignore=keep)
    command = ["audit", "bundle", folder / "bundle", *who, "--anchors", folder / "anchors.json"]
    report = ["--profile", "reference", "--json", folder / "audit.json"]
    subprocess.run(list(map(str, [*PERTURB, *command, *report])), check=True)


def superseded(folder: str, names: list[str]) -> set[str]:
    """The partial tiles that a wider one replaces: all but the widest of a `.p` folder."""
    if not folder.endswith(".p"):
        return set()
    return set(names) - {max(names, key=int)}


if __name__ == "__main__":
    record(Path(sys.argv[1]))
