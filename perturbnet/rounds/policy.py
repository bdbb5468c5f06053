"""What a round depends on: from settings to values, and to the leaves that record them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass

from perturbnet.classifier.environment import describe_environment
from perturbnet.config import Settings
from perturbnet.datasets import SourceIdentity
from perturbnet.ledger.leaves import ConfigLeaf, RulesLeaf
from perturbnet.rules.classification import Engine
from perturbnet.rules.freshness import FRESHNESS_FORM
from perturbnet.rules.selection import SelectionRules
from perturbnet.version import __version__
from perturbnet.wire.messages import Rules


@dataclass(frozen=True)
class RoundPolicy:
    """The settings a round depends on."""

    rules: Rules
    selection: SelectionRules
    max_attempts: int
    augment: int  # the form of freshness, 0 for none: see freshness.FRESHNESS_FORMS
    duplicates: str
    max_body_bytes: int
    keep_bodies_rounds: int
    protocol_fingerprint: str


def build_policy(settings: Settings, rules: Rules, fingerprint: str) -> RoundPolicy:
    """What a round depends on. Grouping is lifted on a local network, where everybody is one operator."""
    local = settings.network == "local"
    return RoundPolicy(
        rules=rules,
        selection=SelectionRules(
            k=settings.k_miners,
            exploration=settings.miner_exploration_ratio,
            min_processed=settings.min_processed_count,
            group_by_coldkey=not local,
            group_by_ip=settings.group_by_ip and not local,
        ),
        max_attempts=settings.max_challenge_attempts,
        augment=FRESHNESS_FORM if settings.challenge_augment else 0,
        duplicates=settings.duplicates,
        max_body_bytes=settings.max_response_bytes,
        keep_bodies_rounds=settings.keep_bodies_rounds,
        protocol_fingerprint=fingerprint,
    )


def build_rules_leaf(settings: Settings, policy: RoundPolicy, *, block: int) -> RulesLeaf:
    """The rules as the ledger records them."""
    selection = policy.selection
    return RulesLeaf(
        version=policy.rules.version,
        activation_block=block,
        gates=policy.rules.model_dump(mode="json"),
        history={
            "history_size": settings.history_size,
            "min_processed_count": settings.min_processed_count,
            "duplicates": settings.duplicates,
            "burn_uid": "" if settings.burn_uid is None else settings.burn_uid,
        },
        selection={
            "k": selection.k,
            "exploration": str(selection.exploration),
            "group_by_coldkey": int(selection.group_by_coldkey),
            "group_by_ip": int(selection.group_by_ip),
        },
        challenges={
            "augment": policy.augment,
            "max_attempts": policy.max_attempts,
            "max_body_bytes": policy.max_body_bytes,
        },
    )


def build_config_leaf(
    settings: Settings, engine: Engine, identity: SourceIdentity, *, hotkey: str, fingerprint: str
) -> ConfigLeaf:
    """Model, data set, code and environment as the ledger records them."""
    return ConfigLeaf(
        validator=hotkey,
        netuid=settings.netuid,
        code_version=__version__,
        model_name=engine.model_name,
        model_digest=engine.model_digest,
        engine=engine.name,
        environment=describe_environment(),
        dataset=asdict(identity),
        fingerprint=identity.fingerprint,
        protocol_fingerprint=fingerprint,
    )


def secret_source(seed: str | None) -> Callable[[int], bytes]:
    """Where epochs' secrets come from: the system, or on a local network a text, so a run can be repeated."""
    if seed is None:
        return lambda _epoch: secrets.token_bytes(32)
    key = hashlib.sha256(seed.encode()).digest()
    return lambda epoch: hmac.digest(key, b"epoch" + epoch.to_bytes(8, "big"), "sha256")
