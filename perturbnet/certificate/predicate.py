"""What a certificate says, as types; and the part of it that anybody can gather from the log again.

Every number is a whole number or decimal text. `CertifiedEvidence` follows from the log, the model's digest
and the range alone; whoever gathers it from the same leaves gets the same bytes. The rest is who says it, and
when.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from perturbnet.certificate.wording import caveats, mappings, summary
from perturbnet.errors import OutputError
from perturbnet.ledger.leaves import ConfigLeaf, GenesisLeaf
from perturbnet.rounds.attempts import ImageAttempts
from perturbnet.rounds.logged import Log
from perturbnet.rules.classification import CANONICAL
from perturbnet.runtime.progress import Progress
from perturbnet.statistics.intervals import LEVEL
from perturbnet.statistics.robustness import Count, Statistics, end_of_range, feed

PREDICATE_TYPE = "urn:perturb:robustness-certificate:1"
VERSION = 1
OFFLINE = "offline"  # the network of an evaluation without a chain


class CertifiedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was attacked. `digest` is SHA-256: of the canonical artefact, or of what names a plain network."""

    name: str
    digest: str
    engines: list[str]
    reproducible: bool  # whether labels come out the same, bit for bit, on every machine


class CertifiedGates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules that some of the rounds were judged by."""

    leaf: int
    rounds: int
    rules: dict[str, str | int]


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What some of the rounds were computed with, and on which data set."""

    leaf: int
    rounds: int
    code_version: str
    engine: str
    dataset: dict[str, str | int]
    protocol_fingerprint: str
    environment: dict[str, str]


class ThreatModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the attackers could do."""

    summary: str
    knowledge: str
    gates: list[CertifiedGates]
    rounds_with_freshness: int  # the image was cropped and scaled by chance before it was sent


class CertifiedEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What follows from the log."""

    model: CertifiedModel
    threat_model: ThreatModel
    configurations: list[Configuration]
    statistics: Statistics


class LogHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which log, whose, and the root over the leaves that were counted."""

    origin: str
    network: str
    netuid: int
    hotkey: str
    key: str  # Ed25519, hex: the log's own when the certificate was issued
    size: int
    root: str
    checkpoint: str  # the signed note under which it was read: at least `size` leaves


class AnchorFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest anchor that the log knew of when the certificate was issued."""

    block: int
    size: int
    payload: str


class Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a certificate says."""

    version: int
    issued_ms: int  # wall time since 1970; attested
    issued_with: str
    log: LogHead
    anchor: AnchorFacts | None
    evidence: CertifiedEvidence
    caveats: list[str]
    mappings: list[dict[str, str]]

    @property
    def statistics(self) -> Statistics:
        """The numbers."""
        return self.evidence.statistics

    @property
    def offline(self) -> bool:
        """Whether it is an evaluation without a chain."""
        return self.log.network == OFFLINE


@dataclass
class Gathering:
    """The fold that `gather` is: rounds in, evidence out."""

    count: Count
    offline: bool
    configs: dict[int, ConfigLeaf] = field(default_factory=dict)
    rules: dict[int, dict[str, str | int]] = field(default_factory=dict)
    rounds_by_config: Counter[int] = field(default_factory=Counter)
    rounds_by_rules: Counter[int] = field(default_factory=Counter)
    fresh: int = 0

    def add(self, done: ImageAttempts) -> None:
        """Take in a round; only those that count leave a trace."""
        if not self.count.add(done):
            return
        challenge = done.challenge
        self.configs[challenge.config] = done.config
        self.rules.setdefault(challenge.rules, done.terms.rules.model_dump(mode="json"))
        self.rounds_by_config[challenge.config] += 1
        self.rounds_by_rules[challenge.rules] += 1
        self.fresh += bool(challenge.freshness)

    def finish(self, statistics: Statistics) -> CertifiedEvidence:
        """The evidence; raises `OutputError` where no round counts."""
        if not self.configs:
            counted = ", ".join(f"{n} {why}" for why, n in statistics.excluded.items() if n) or "no rounds"
            raise OutputError(
                f"nothing to certify: no round on the model {statistics.model} counts ({counted})",
                hint="name another model, or a wider range",
            )
        newest = self.configs[max(self.configs)]
        engines = sorted({config.engine for config in self.configs.values()})
        reproducible = set(engines) <= set(CANONICAL)
        gates = [
            CertifiedGates(at, self.rounds_by_rules[at], rules) for at, rules in sorted(self.rules.items())
        ]
        configurations = [
            _configuration(at, self.rounds_by_config[at], leaf) for at, leaf in sorted(self.configs.items())
        ]
        return CertifiedEvidence(
            CertifiedModel(newest.model_name, statistics.model, engines, reproducible),
            ThreatModel(summary(offline=self.offline), "white box", gates, self.fresh),
            configurations,
            statistics,
        )


def gather(
    log: Log,
    model: str,
    *,
    since: int = 0,
    until: int | None = None,
    level: str = LEVEL,
    progress: Progress = lambda _done, _of: None,
) -> CertifiedEvidence:
    """Count a range of leaves, and note what it was computed with; arguments as `statistics.count_log`.

    Raises:
        OutputError: no such range, or nothing in it counts.
        LedgerError: a leaf that is missing, or a round that does not fit together.

    """
    until = end_of_range(log, since, until)
    gathering = Gathering(Count(model, since), offline=_is_offline(log))
    cut_off = feed(log, gathering.add, since, until, progress)
    return gathering.finish(gathering.count.finish(until, cut_off=cut_off, level=level))


def _is_offline(log: Log) -> bool:
    """Whether the log began as one of an evaluation without a chain."""
    first = next(iter(log.entries(0, 1))).leaf
    return isinstance(first, GenesisLeaf) and first.network == OFFLINE


def sentences(evidence: CertifiedEvidence, network: str) -> tuple[list[str], list[dict[str, str]]]:
    """The caveats and mappings that a certificate of this evidence carries."""
    offline = network == OFFLINE
    return (
        caveats(
            reproducible=evidence.model.reproducible,
            offline=offline,
            labelled=evidence.statistics.labelled > 0,
            changed=len(evidence.configurations) > 1 or len(evidence.threat_model.gates) > 1,
        ),
        mappings(offline=offline),
    )


def _configuration(at: int, rounds: int, leaf: ConfigLeaf) -> Configuration:
    return Configuration(
        leaf=at,
        rounds=rounds,
        code_version=leaf.code_version,
        engine=leaf.engine,
        dataset=dict(leaf.dataset),
        protocol_fingerprint=leaf.protocol_fingerprint,
        environment=dict(leaf.environment),
    )
