"""Identical answers under each rule: settled by the auditor as the validator must; who did not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbnet.auditing.findings import AuditStep
from perturbnet.ledger import LedgerStore
from perturbnet.ledger.journal import LEDGER_FILE
from perturbnet.ledger.leaves import ReceiptLeaf
from perturbnet.transparency.delegation import build_genesis
from tests.support.auditing.honest import LOG_KEY, Honest, honest_of, named, tampered
from tests.support.fakes import NETUID, MemoryCourier, MemorySource, keypair
from tests.support.validator.world import good, make_world, silent


def live(folder: Path, duplicates: str) -> Honest:
    """One round under this rule, in which two of three miners send one image."""
    world = make_world(folder, miners=3, PERTURB_DUPLICATES=duplicates)
    world.source = MemorySource(4)
    world.courier = MemoryCourier({1: good, 2: good, 3: silent})
    with LedgerStore(world.state_dir / LEDGER_FILE) as store:
        store.append([build_genesis(keypair(1), LOG_KEY, network="local", netuid=NETUID, created_ms=0)])
    return honest_of(world, world.run(1))


@pytest.mark.parametrize(("duplicates", "share"), [("record", 1.0), ("split", 0.5), ("zero", 0.0)])
def test_each_rule_is_recomputed(tmp_path: Path, duplicates: str, share: float) -> None:
    folders = [tmp_path / "this", tmp_path / "recorded"]
    for folder in folders:
        folder.mkdir()
    log, recorded = live(folders[0], duplicates), live(folders[1], "record")
    whole = recorded.receipts()[0]
    place = log.receipts()[0]
    earned, full = (found.leaves()[at] for found, at in ((log, place), (recorded, whole)))
    assert isinstance(earned, ReceiptLeaf)
    assert isinstance(full, ReceiptLeaf)
    assert full.score_ppb > 0
    assert earned.score_ppb == int(full.score_ppb * share)
    report = log.audit()
    assert not report.findings, [found.sentence() for found in report.findings]


@pytest.mark.parametrize(("duplicates", "score_ppb"), [("record", 0), ("split", 10**8), ("zero", 10**8)])
def test_a_validator_that_keeps_to_another_rule_is_found(
    tmp_path: Path, duplicates: str, score_ppb: int
) -> None:
    log = live(tmp_path, duplicates)
    place = log.receipts()[1]
    assert (AuditStep.ANSWERS, place, "score_ppb") in named(
        log.audit(tampered(log, place, score_ppb=score_ppb))
    )
