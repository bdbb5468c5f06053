"""The sentences: of miners and a chain where there were any, of this run's attacks where there were none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from perturbnet.certificate.predicate import OFFLINE as NETWORK
from perturbnet.certificate.predicate import gather, sentences
from perturbnet.certificate.wording import OFFLINE, caveats, mappings, summary
from perturbnet.ledger import Entry
from perturbnet.ledger.leaves import GenesisLeaf
from perturbnet.transparency.bundle import Bundle, open_bundle
from tests.unit.certificate.conftest import World

OF_A_NETWORK = re.compile(r"\b(miners?|validators?|pool|anchor|paid|pay)\b")
WHOLE = {"reproducible": True, "labelled": True, "changed": False}


@dataclass
class OfflineLog:
    """A network's log that claims to have begun without one."""

    bundle: Bundle

    @property
    def size(self) -> int:
        return self.bundle.size

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        for entry in self.bundle.entries(start, stop):
            leaf = entry.leaf
            if isinstance(leaf, GenesisLeaf):
                yield replace(entry, leaf=replace(leaf, network=NETWORK))
            else:
                yield entry

    def blob(self, digest: str) -> bytes:
        return self.bundle.blob(digest)


def test_offline_nothing_is_said_of_miners_or_a_chain() -> None:
    said = [summary(offline=True), *caveats(offline=True, **WHOLE)]
    said += [row["evidence"] for row in mappings(offline=True)]
    assert OFFLINE in said
    left = [text for text in said if OF_A_NETWORK.search(text) and text != OFFLINE]
    assert [text for text in left if "nobody is paid" not in text] == []
    assert any("of this run, and nobody else's" in text for text in said)


def test_on_a_network_they_are_named() -> None:
    said = [summary(offline=False), *caveats(offline=False, **WHOLE)]
    assert sum(bool(OF_A_NETWORK.search(text)) for text in said) == 7
    assert OFFLINE not in said
    assert len(said) == len(caveats(offline=True, **WHOLE))


@pytest.mark.parametrize("offline", [True, False])
def test_evidence_follows_from_how_the_log_began(world: World, offline: bool) -> None:
    predicate = world.certificate.predicate
    with open_bundle(world.bundle) as bundle:
        log = OfflineLog(bundle) if offline else bundle
        evidence = gather(log, predicate.statistics.model, until=predicate.statistics.until)
    assert evidence.threat_model.summary == summary(offline=offline)
    network = NETWORK if offline else predicate.log.network
    assert sentences(evidence, network)[1] == mappings(offline=offline)
