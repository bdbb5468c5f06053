"""Who this neuron is and how it stands on chain: keys, registration, stake, rules."""

from __future__ import annotations

from pathlib import Path

from perturbnet.chain.protocol import RAO
from perturbnet.config import require_live
from perturbnet.doctor.checks import CheckResult, bad, look, ok
from perturbnet.doctor.patient import Patient
from perturbnet.miner.reserve import TimeToSearch

OTHERS = 0o077


def check_settings(patient: Patient) -> CheckResult:
    """Wallet, hotkey, netuid and network are said."""
    require_live(patient.loaded)
    settings = patient.settings
    return ok(f"{settings.network}, netuid {settings.netuid}, profile {settings.profile}")


def check_hotkey(patient: Patient) -> CheckResult:
    """The hotkey can sign, and only its owner can read it."""
    address, file = patient.keypair.ss58_address, hotkey_file(patient)
    mode = file.stat().st_mode
    if mode & OTHERS:
        return look(f"{address}, but others may read {file} (mode {mode & 0o777:o})", f"chmod 600 {file}")
    return ok(address)


def check_coldkey(patient: Patient) -> CheckResult:
    """The coldkey, which owns the money, is not here."""
    settings = patient.settings
    coldkey = settings.wallet_path / settings.wallet_name / "coldkey"
    if coldkey.exists() and not patient.local:
        return look(f"{coldkey} is on this machine")
    return ok("not on this machine" if not coldkey.exists() else "a throw-away of a local network")


def check_chain(patient: Patient) -> CheckResult:
    """The chain answers."""
    found = patient.on_chain.metagraph
    return ok(f"{patient.settings.network} answers: block {found.block:,}, {len(found.neurons)} neurons")


def check_registration(patient: Patient) -> CheckResult:
    """The hotkey has a uid."""
    neuron = patient.neuron
    return ok(f"uid {neuron.uid}, since block {neuron.registered_block:,}")


def check_stake(patient: Patient) -> CheckResult:
    """A validator has a permit, without which its weights are refused."""
    neuron = patient.neuron
    stake = f"{neuron.stake_rao / RAO:,.3f} of stake"
    if neuron.validator_permit:
        return ok(f"validator permit, {stake}")
    return bad(f"no validator permit; {stake}")


def check_rules(patient: Patient) -> CheckResult:
    """Weights carry a version that the chain takes."""
    ours, wanted = patient.settings.rules_version, patient.on_chain.rules.weights_version
    if ours < wanted:
        return bad(f"PERTURB_RULES_VERSION is {ours}, the chain wants {wanted} or more")
    return ok(f"version {ours}, the chain wants {wanted}")


def check_time(patient: Patient) -> CheckResult:
    """A time-out leaves time to search: by this neuron's settings; the other side may have others."""
    time = TimeToSearch.of(patient.settings)
    if time.none and patient.role == "miner":
        return bad(str(time))
    return look(str(time)) if time.little else ok(str(time))


def check_reveal(patient: Patient) -> CheckResult:
    """Nothing is published before the weights it led to are revealed."""
    settings, rules = patient.settings, patient.on_chain.rules
    if settings.publish_to is None:
        todo = "set PERTURB_PUBLISH_TO to a folder that is served, and PERTURB_PUBLISH_URL to its address"
        return look("the log is not published: nobody can audit this validator", todo)
    sealed = (rules.reveal_period_epochs + 1) * rules.tempo if rules.commit_reveal_enabled else 0
    delay = sealed if settings.publish_delay_blocks is None else settings.publish_delay_blocks
    if delay < sealed and not patient.local:
        return bad(f"leaves are published after {delay} blocks, weights are sealed for up to {sealed}")
    return ok(f"published after {delay} blocks; weights are sealed for up to {sealed}")


def hotkey_file(patient: Patient) -> Path:
    """Where the hotkey lies."""
    settings = patient.settings
    if settings.hotkey_file is not None:
        return settings.hotkey_file
    return settings.wallet_path.expanduser() / settings.wallet_name / "hotkeys" / settings.wallet_hotkey
