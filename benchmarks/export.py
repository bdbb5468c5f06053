"""Exporting a data set: what a thousand accepted answers cost, and a hundred thousand: rate and memory.

The peer does the least that a data set of the same rows needs: `datasets` makes one of rows that are ready in
memory and writes it as Parquet. Ours begins with a published log: every leaf up to the root, every delta
inflated and compared with its receipt, duplicates, splits, manifest.

The log is synthetic. Its deltas are those of the reference profile's size, noise of one or two levels on half
of the values; a pool of them serves all receipts, so the disk is not what is measured.

`python -m benchmarks.export [RECEIPTS]` measures one large log (100,000), in delta mode.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bittensor import sp_core

from benchmarks import material
from benchmarks.harness import Case, Work
from benchmarks.material import accepted_receipt, scratch_folder
from perturbnet.adversarial_dataset.examples import Builder, unpack
from perturbnet.adversarial_dataset.exporting import Asked, export
from perturbnet.adversarial_dataset.layout import Mode
from perturbnet.auditing.run import Means
from perturbnet.ledger import BlobStore, Leaf, LedgerStore, leaf_hash
from perturbnet.ledger.leaves import ChallengeLeaf, ConfigLeaf, MetagraphLeaf, ReceiptLeaf, RulesLeaf
from perturbnet.transparency.bundle import open_bundle
from perturbnet.transparency.delegation import build_genesis, origin_of
from perturbnet.transparency.notes import SigningKey
from perturbnet.transparency.places import Folder
from perturbnet.transparency.publishing import LogSource, publish
from perturbnet.wire.deltas import encode_delta

MINERS, POOL = 20, 400
HEIGHT, WIDTH = 96, 120
SMALL, LARGE = 1000, 100_000
CONFIG, RULES, METAGRAPH = 1, 2, 3


def cases() -> Sequence[Case]:
    """One export of a thousand receipts."""
    return (Case(f"export {SMALL} receipts", _ours, _bare_rows, "datasets, of rows in memory"),)


def make_bundle(folder: Path, receipts: int) -> Path:
    """A published log of so many accepted answers."""
    owner = sp_core.Keypair.create_from_seed(hashlib.sha256(b"bench").digest(), sp_core.CRYPTO_SR25519)
    key = SigningKey.from_seed(origin_of("local", 1, owner.ss58_address), b"\1" * 32)
    blobs = BlobStore(folder / "deltas")
    pool = [_delta(blobs, number) for number in range(POOL)]
    with LedgerStore(folder / "ledger.sqlite") as store:
        genesis = build_genesis(owner, key, network="local", netuid=1, created_ms=0)
        store.append([genesis, *_ground(owner.ss58_address)])
        numbers = itertools.count()
        for round_ in range(receipts // MINERS):
            store.append(_round(store.size, round_, [pool[next(numbers) % POOL] for _ in range(MINERS)]))
        source = LogSource(store, blobs, key)
        publish(source, Folder(folder / "bundle"), store.size)
    return folder / "bundle"


def _delta(blobs: BlobStore, number: int) -> dict[str, Any]:
    """A blob, and what a receipt says about it."""
    dice = np.random.default_rng(number)
    levels = np.array([-1, 1]) * (1 + number % 2)
    change = dice.choice(levels, (HEIGHT, WIDTH, 3)) * (dice.random((HEIGHT, WIDTH, 3)) < 0.5)
    clean = np.full(change.shape, 100, np.uint8)
    blob = blobs.put(encode_delta(clean, (clean + change).astype(np.uint8)))
    largest, total = int(np.abs(change).max()), int(np.square(change).sum())
    return {"delta": blob, "linf_u8": largest, "changed": int(np.count_nonzero(change)), "sum_sq": total}


def _ground(hotkey: str) -> list[Leaf]:
    """The leaves that challenges refer to."""
    dataset: dict[str, str | int] = {"repository": "perturbnet/reference", "revision": "1", "split": "train"}
    dataset |= {"rows": 126_689, "manifest_digest": "0" * 64}
    config = ConfigLeaf(
        hotkey, 1, "0", "model", "0" * 64, "float64", {}, dataset, "f" * 64, protocol_fingerprint="0" * 64
    )
    rules = RulesLeaf(1, 0, material.RULES.model_dump(), {"duplicates": "first"}, {}, {})
    neurons: list[list[int | str]] = [[uid, f"5F{uid:046d}", "5C", 0, "", 0] for uid in range(256)]
    return [config, rules, MetagraphLeaf(0, 1, neurons)]


def _round(position: int, number: int, deltas: Sequence[dict[str, Any]]) -> list[Leaf]:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    challenge = ChallengeLeaf(
        round=number,
        config=CONFIG,
        rules=RULES,
        metagraph=METAGRAPH,
        epoch=0,
        draw=number,
        row=number * 7919 % 126_689,
        attempt=0,
        block=number,
        task_id=f"0-{number}",
        nonce=digest,
        epsilon="0.02",
        freshness={},
        true_label="golden retriever",
        true_index=207,
        source_label="golden retriever",
        clean_pixels=digest,
        clean_logits=digest,
        selection_seed=digest,
        asked=list(range(len(deltas))),
        created_ms=0,
    )
    identifier = leaf_hash(challenge.encode())
    receipts = [_receipt(position, number, identifier, uid, facts) for uid, facts in enumerate(deltas)]
    return [challenge, *receipts]


def _receipt(position: int, number: int, identifier: str, uid: int, facts: dict[str, Any]) -> ReceiptLeaf:
    digest = hashlib.sha256(b"%d/%d" % (number, uid)).hexdigest()
    return accepted_receipt(
        digest,
        challenge=position,
        round=number,
        block=number,
        challenge_id=identifier,
        uid=uid,
        hotkey=f"5F{uid:046d}",
        nonce=str(number),
        signature="0x" + digest * 2,
        response_ms=900,
        label_after="cocker spaniel",
        **facts,
    )


@cache
def _small() -> Path:
    return make_bundle(scratch_folder("export"), SMALL)


def _export(bundle: Path, out: Path) -> int:
    with open_bundle(bundle) as opened:
        return export(opened, out, Asked(), Means()).rows()


def _ours() -> Work:
    bundle, outs = _small(), (scratch_folder("export") / str(number) for number in itertools.count())
    return lambda: _export(bundle, next(outs))


def _bare_rows() -> Work:
    import datasets

    rows, folder = list(_ready_rows()), scratch_folder("export")
    datasets.disable_progress_bars()
    numbers = itertools.count()
    return lambda: datasets.Dataset.from_list(rows).to_parquet(folder / f"{next(numbers)}.parquet")


def _ready_rows() -> Iterator[dict[str, Any]]:
    from perturbnet.rounds.attempts import read_attempts

    with open_bundle(_small()) as opened:
        builder = Builder(opened, Mode.DELTA)
        for attempts in read_attempts(opened):
            for row in builder.rows(attempts, frozenset()):
                if row.differences is not None:
                    positions, changes = unpack(row.differences)
                    yield {**row.values, "positions": positions, "changes": changes}


def measure_large_export(receipts: int) -> None:
    """Make a log, export it in a process of its own, and print rate, memory and bytes."""
    folder = scratch_folder("export")
    begin_s = time.perf_counter()
    bundle = make_bundle(folder, receipts)
    _say("log made in", "s", time.perf_counter() - begin_s)
    command = [sys.executable, "-m", "benchmarks.export", "--export", str(bundle), str(folder / "out")]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    _say("receipts exported", "", said["rows"])
    _say("rate", "receipts/s", said["rows"] / said["seconds"])
    _say("peak memory, whole process", "MiB", said["peak_mib"])
    _say("of it the export", "MiB", said["peak_mib"] - said["before_mib"])
    size = sum(path.stat().st_size for path in (folder / "out").rglob("*.parquet"))
    _say("bytes a row", "B", size / said["rows"])


def _export_alone(bundle: Path, out: Path) -> None:
    import datasets  # noqa: F401 - libraries are not the export's memory
    import pyarrow.parquet  # noqa: F401 - likewise

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (man 5 proc)
    before, begin_s = _peak_mib(), time.perf_counter()
    rows = _export(bundle, out)
    seconds = time.perf_counter() - begin_s
    print(json.dumps({"rows": rows, "seconds": seconds, "before_mib": before, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not found:
        raise OSError("/proc/self/status has no VmHWM")
    return int(found[1]) / 1024


def _say(what: str, unit: str, value: float) -> None:
    print(f"{what:<32} {value:>12,.2f} {unit}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--export"]:
        _export_alone(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        measure_large_export(int(sys.argv[1]) if sys.argv[1:] else LARGE)
