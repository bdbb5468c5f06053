"""Fuzzing of everything that reads a stranger's files: a few seconds here, ten minutes in the slow run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perturbnet.auditing.parts import AuditPart, AuditPlan
from perturbnet.auditing.run import Scope
from perturbnet.transparency.anchors import encode_anchors
from perturbnet.transparency.bundle import open_bundle
from perturbnet.wire.deltas import encode_delta
from tests.support.auditing.acknowledgements import signed
from tests.support.auditing.fuzzing import CLEAN, PARSERS, lie, parse_anything, read_anything
from tests.support.auditing.honest import LOG_KEY, Honest
from tests.support.auditing.published import anchor_of, prove_fraud, publish_honest

QUICK = settings(max_examples=150)
FEW = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])  # each is a whole audit
SLOW_S = 600.0


@pytest.fixture(scope="module")
def files(honest: Honest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An honest bundle in memory."""
    folder = publish_honest(honest, tmp_path_factory.mktemp("fuzz") / "log")
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.fixture(scope="module")
def samples(honest: Honest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Something honest for every parser."""
    folder = publish_honest(honest, tmp_path_factory.mktemp("samples") / "log")
    with open_bundle(folder) as bundle:
        plan = AuditPlan.of(bundle)
        part = AuditPart(plan, Scope.whole(bundle.size), honest.audit(), model=True)
        return {
            "note": bundle.note,
            "checkpoint": bundle.signed.text.encode(),
            "proof": bundle.proof(5).encode(),
            "anchors": encode_anchors([anchor_of(honest.leaves())]),
            "verifier key": LOG_KEY.verifier().encode().encode(),
            "signing key": LOG_KEY.encode().encode(),
            "fraud proof": prove_fraud(honest),
            "delta": encode_delta(CLEAN, CLEAN[::-1]),
            "acknowledgement": signed(honest, honest.receipts()[0]).encode(),
            "part": part.encode().encode(),
            "plan": json.dumps(asdict(plan)).encode(),
        }


def test_every_sample_is_accepted_by_its_own_parser(samples: dict[str, bytes]) -> None:
    """Otherwise the fuzzing below would only ever see refusals."""
    assert set(samples) == set(PARSERS)
    for name, sample in samples.items():
        assert PARSERS[name](sample) is not None


def test_parsers_end_in_a_value_or_a_named_error(samples: dict[str, bytes]) -> None:
    @QUICK
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        parse_anything(data, samples)

    fuzz()


def test_a_damaged_bundle_ends_in_findings_or_a_named_error(honest: Honest, files: dict[str, bytes]) -> None:
    anchor = anchor_of(honest.leaves())

    @FEW
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        read_anything(data, files, honest, anchor)

    fuzz()


def test_an_operator_who_says_anything_is_audited_to_the_end(honest: Honest) -> None:
    @FEW
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        lie(data, honest)

    fuzz()


@pytest.mark.slow
@pytest.mark.timeout(2 * SLOW_S)
def test_ten_minutes_of_fuzzing(honest: Honest, files: dict[str, bytes], samples: dict[str, bytes]) -> None:
    anchor, count = anchor_of(honest.leaves()), 0

    def bundle(data: st.DataObject) -> None:
        read_anything(data, files, honest, anchor)

    def parser(data: st.DataObject) -> None:
        parse_anything(data, samples)

    until = time.monotonic() + SLOW_S
    while time.monotonic() < until:
        count += _fuzz(bundle, 200) + _fuzz(parser, 2000) + _fuzz(lambda data: lie(data, honest), 200)
    print(f"{count} examples in {SLOW_S:.0f} s")  # noqa: T201
    assert count > 10_000


def _fuzz(target: Callable[[st.DataObject], None], examples: int) -> int:
    """So many new examples; returns how many ran."""
    ran = 0

    @settings(max_examples=examples, database=None)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        nonlocal ran
        ran += 1
        target(data)

    fuzz()
    return ran
