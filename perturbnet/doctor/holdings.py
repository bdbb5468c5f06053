"""What this node holds: manifest, data set, model, ledger; and what it may show of itself."""

from __future__ import annotations

import netrc
import os
from urllib.parse import urlsplit

from perturbnet.bootstrap.holdings import open_checked, require_engine
from perturbnet.doctor.checks import CheckResult, bad, look, ok
from perturbnet.doctor.patient import Patient
from perturbnet.errors import PerturbError
from perturbnet.overview.feeds import LiveFeed
from perturbnet.transparency.log_key import KEY_FILE

LEDGER_FILE = "ledger.sqlite"
WANDB = "https://api.wandb.ai"


def check_manifest(patient: Patient) -> CheckResult:
    """`perturb bootstrap` was run, for this profile and this version."""
    found = patient.manifest
    return ok(f"{found.profile}, protocol fingerprint {found.digest[:16]}")


def check_data(patient: Patient) -> CheckResult:
    """Files are those of the manifest; rows drawn at random decode to the pixels it names."""
    source = open_checked(patient.workplace, patient.manifest)
    return ok(f"{source.identity.repository}, {source.identity.rows:,} rows; 16 drawn at random are right")


def check_model(patient: Patient) -> CheckResult:
    """The engine opens, and is of the manifest's model."""
    from perturbnet.classifier import open_engine  # torch takes seconds

    settings = patient.settings
    engine = open_engine(
        settings.profile, cache_dir=settings.cache_dir, device=settings.device, kind=settings.engine
    )
    require_engine(patient.manifest, engine)
    return ok(f"{engine.model_name} ({engine.name}), digest {engine.model_digest[:16]}")


def check_ledger(patient: Patient) -> CheckResult:
    """The log and its key are there together, or neither is."""
    folder, port = patient.settings.state_dir, patient.settings.metrics_port
    ledger, key = folder / LEDGER_FILE, folder / KEY_FILE
    if not ledger.exists():
        return ok(f"none in {folder} yet: a new log begins at the first start")
    if not key.exists():
        return bad(f"{ledger} is there, and its key {KEY_FILE} is not: nothing could be signed")
    try:
        overview = LiveFeed(port, folder).read() if port else None
    except PerturbError:
        overview = None
    if overview is None:
        return ok(f"{ledger}, {ledger.stat().st_size / 1e6:.1f} MB, with its key")
    wrong = [found for found in overview.health if not found.ok]
    text = f"a validator runs on it: {overview.rounds:,} rounds, {overview.leaves:,} leaves"
    if wrong:
        return look(f"{text}; {wrong[0].name}: {wrong[0].found}", "perturb status")
    return ok(text)


def check_mirror(patient: Patient) -> CheckResult:
    """Where numbers are mirrored to Weights & Biases, there is a key for it."""
    settings = patient.settings
    if not settings.wandb_enabled:
        return ok("off")
    if settings.wandb_mode != "online":
        return ok(f"{settings.wandb_mode}: nothing leaves this machine")
    if os.environ.get("WANDB_API_KEY") or _in_netrc():
        return ok(f"online, project {settings.wandb_project}, and there is a key")
    return look("PERTURB_WANDB_ENABLED, and no key: nothing will be mirrored")


def _in_netrc() -> bool:
    host = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB)).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
