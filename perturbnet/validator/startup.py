"""From settings to what a run computes with: holdings, rules, policy, and the leaves that record them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass

from perturbnet import __version__
from perturbnet.bootstrap.holdings import open_checked, open_manifest, require_engine
from perturbnet.bootstrap.manifest import Manifest
from perturbnet.bootstrap.records import Workplace
from perturbnet.classifier import Engine, open_engine
from perturbnet.classifier.environment import describe_environment
from perturbnet.config import Settings
from perturbnet.datasets import ImageSource, SourceIdentity
from perturbnet.freshness import FRESHNESS_FORM
from perturbnet.ledger.leaves import ConfigLeaf, RulesLeaf
from perturbnet.protocol import Rules
from perturbnet.selection import SelectionRules
from perturbnet.validator.posing import RoundPolicy

DECIMAL_RULES = (
    "min_linf_delta",
    "max_linf_delta",
    "min_ssim",
    "min_psnr_db",
    "linf_component_weight",
    "rmse_component_weight",
    "perturbation_weight",
    "speed_weight",
)


@dataclass(frozen=True)
class Held:
    """What a validator holds, compared with its manifest: the model behind an engine, and the data set."""

    manifest: Manifest
    engine: Engine
    source: ImageSource


def open_held(settings: Settings) -> Held:
    """Open what `perturb bootstrap` prepared, or refuse it by name; nothing is fetched or repaired here.

    Raises:
        ArtifactMissing: there is no manifest, or something it names is gone; the hint says how to make it.
        DigestMismatch: files, rows, decoder or model are not what the manifest names.
        PerturbError: see `classifier.open_engine` and `datasets.open_source`.

    """
    place = Workplace(settings.cache_dir, settings.profile)
    manifest = open_manifest(place)
    source = open_checked(place, manifest, paranoid=settings.paranoid)
    engine = open_engine(
        settings.profile, cache_dir=settings.cache_dir, device=settings.device, kind=settings.engine
    )
    require_engine(manifest, engine)
    return Held(manifest, engine, source)


def build_rules(settings: Settings) -> Rules:
    """The rules that travel with every challenge; settings have six decimals at most, so `str` is plain."""
    texts = {name: str(getattr(settings, name)) for name in DECIMAL_RULES}
    timeout_ms = int(settings.timeout_seconds * 1000)
    return Rules(version=settings.rules_version, timeout_ms=timeout_ms, **texts)


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
