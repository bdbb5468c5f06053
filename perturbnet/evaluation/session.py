"""An evaluation's folder, open: its key, its log, its judge; begun, gone on with, published.

OUT/evaluation.json   the plan: model, images, rules, attacks, budget
OUT/images.json       every file that was looked at, with digests, and why some were refused
OUT/network-….model   the compiled network, where it compiles
OUT/keys/             the evaluation's own hotkey, and one for each attack
OUT/state/            the ledger, its signing key, what is kept of answers
OUT/bundle/           the published log: what `perturb certify`, `report`, `export` and `audit` read
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from perturbnet.config import Settings
from perturbnet.config.loading import SMALLEST_EPSILON
from perturbnet.errors import ConfigError
from perturbnet.evaluation.attackers import (
    NETUID,
    WALLETS,
    Arena,
    Attacker,
    SearchBudget,
    describe_metagraph,
)
from perturbnet.evaluation.engines import PlainClassification
from perturbnet.evaluation.images import FolderSource
from perturbnet.evaluation.plan import EvaluationPlan
from perturbnet.evaluation.rounds import Evaluation
from perturbnet.ledger.journal import Journal
from perturbnet.rounds.draws import EpochDraws
from perturbnet.rounds.policy import (
    RoundPolicy,
    build_config_leaf,
    build_policy,
    build_rules_leaf,
    secret_source,
)
from perturbnet.rounds.terms import metagraph_leaf
from perturbnet.rules.from_settings import build_rules
from perturbnet.runtime.clock import Clock, SystemClock
from perturbnet.runtime.folders import make_folder
from perturbnet.runtime.progress import Progress
from perturbnet.runtime.wallets import create_wallet
from perturbnet.transparency.places import open_target
from perturbnet.transparency.publishing import LogSource, publish
from perturbnet.transparency.signing import begin_log
from perturbnet.wire.keys import Keypair

NETWORK = "offline"
STATE = "state"
BUNDLE = "bundle"


@dataclass
class Session:
    """An evaluation that is open: step it, publish it."""

    out: Path
    evaluation: Evaluation
    source: LogSource
    images: FolderSource
    plan: EvaluationPlan
    keypair: Keypair

    @property
    def bundle(self) -> Path:
        """Where the log is published."""
        return self.out / BUNDLE

    @property
    def journal(self) -> Journal:
        """The log."""
        return self.evaluation.journal

    def publish(self, progress: Progress | None = None) -> int:
        """Publish all of the log that is between rounds; returns how many leaves. Nothing is held back.

        Raises:
            LedgerForked: the bundle holds another log.

        """
        opened = self.journal.state.open_round
        size = self.journal.store.size if opened is None else opened.position
        make_folder(self.bundle)
        return publish(self.source, open_target(str(self.bundle)), size, progress=progress).size


def offline_settings(budget_s: str, *, freshness: bool) -> dict[str, str]:
    """The settings that an evaluation fixes, as overrides."""
    return {
        "NETUID": str(NETUID),
        "PERTURB_TIMEOUT_SECONDS": budget_s,
        "PERTURB_CHALLENGE_AUGMENT": str(freshness).lower(),
    }


def require_fixed_cap(settings: Settings) -> None:
    """Refuse a cap that the challenge's own epsilon, which is drawn for each image, would lower.

    Raises:
        ConfigError: PERTURB_MAX_LINF_DELTA is above the smallest epsilon.

    """
    if settings.max_linf_delta > SMALLEST_EPSILON:
        allowed = f"at most {SMALLEST_EPSILON} in an evaluation, so that all images have one cap"
        raise ConfigError("PERTURB_MAX_LINF_DELTA", settings.max_linf_delta, allowed)


def own_key(out: Path) -> Keypair:
    """The evaluation's own hotkey: made in `out`/keys, and found there again.

    Raises:
        WalletError: it cannot be read or written.

    """
    return create_wallet(out / WALLETS, "evaluation", "evaluation").hotkey


@contextmanager
def open_session(  # noqa: PLR0913 - everything that an evaluation consists of
    out: Path,
    settings: Settings,
    *,
    judged: PlainClassification,
    images: FolderSource,
    attackers: list[Attacker],
    budget: SearchBudget,
    plan: EvaluationPlan,
    keypair: Keypair,
    seed: str,
    clock: Clock | None = None,
) -> Iterator[Session]:
    """Open the log in `out`, begun where it is new, and everything that judges.

    Raises:
        LedgerLocked: another process evaluates there.
        LedgerError: the log is damaged, or another key's.

    """
    clock = clock or SystemClock()
    make_folder(out / STATE)
    journal = Journal(out / STATE)
    try:
        source = begin_log(journal, out / STATE, keypair, network=NETWORK, netuid=NETUID, clock=clock)
        policy = _everybody(build_policy(settings, build_rules(settings), plan.digest))
        metagraph = describe_metagraph(keypair, attackers)
        config = build_config_leaf(
            settings, judged.engine, images.identity, hotkey=keypair.ss58_address, fingerprint=plan.digest
        )
        if journal.state.open_round is None:  # what an open round refers to stays the newest
            journal.record_config(
                structs.replace(config, environment=config.environment | plan.environment())
            )
            journal.record_rules(build_rules_leaf(settings, policy, block=0))
            journal.record_metagraph(metagraph_leaf(metagraph))
        evaluation = Evaluation(
            journal=journal,
            draws=EpochDraws(
                journal, images.identity, secret_source(f"{seed}:{images.identity.fingerprint}")
            ),
            source=images,
            arena=Arena(judged.engine, judged.search, budget, keypair.ss58_address),
            attackers=attackers,
            metagraph=metagraph,
            policy=policy,
            clock=clock,
            new_nonce=lambda: secrets.token_hex(32),
        )
        yield Session(out, evaluation, source, images, plan, keypair)
    finally:
        journal.close()


def _everybody(policy: RoundPolicy) -> RoundPolicy:
    """All attacks are one operator's, and each is asked."""
    return replace(policy, selection=replace(policy.selection, group_by_coldkey=False, group_by_ip=False))
