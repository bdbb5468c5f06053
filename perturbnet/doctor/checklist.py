"""The checklist: every check in the order in which a person would go through it, and the page of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perturbnet.doctor import holdings, machine, reach, standing
from perturbnet.doctor.checks import Check, CheckOutcome, CheckResult, Role, unknown
from perturbnet.doctor.patient import Patient

BOTH: tuple[Role, ...] = ("validator", "miner")
VALIDATOR: tuple[Role, ...] = ("validator",)
MINER: tuple[Role, ...] = ("miner",)
BOOTSTRAP = "`perturb bootstrap`"

CHECKS: tuple[Check, ...] = (
    Check(
        "settings",
        BOTH,
        "wallet, hotkey, netuid and network are set",
        "set WALLET_NAME, WALLET_HOTKEY, NETUID and NETWORK: config/*.env.example",
        standing.check_settings,
    ),
    Check(
        "hotkey",
        BOTH,
        "the hotkey signs without a password, and only its owner reads the file",
        "`btcli wallet create`, or copy the private hotkey file here; `chmod 600`",
        standing.check_hotkey,
    ),
    Check(
        "coldkey",
        BOTH,
        "the coldkey is not on this machine: no neuron needs it",
        "keep it elsewhere, and remove it here once it is safe there",
        standing.check_coldkey,
    ),
    Check(
        "chain",
        BOTH,
        "the chain answers within PERTURB_CHAIN_DEADLINE_SECONDS",
        "look at NETWORK and at this machine's way out; name another endpoint",
        standing.check_chain,
    ),
    Check(
        "registration",
        BOTH,
        "the hotkey has a uid on the subnet",
        "`btcli subnets register --netuid N`",
        standing.check_registration,
        ("chain", "hotkey"),
    ),
    Check(
        "stake",
        VALIDATOR,
        "a validator permit: weights are refused without",
        "stake to the hotkey, and wait for the next epoch",
        standing.check_stake,
        ("registration",),
    ),
    Check(
        "rules",
        VALIDATOR,
        "the weights' version key is one that the chain takes",
        "update; or set PERTURB_RULES_VERSION to what the network agreed on",
        standing.check_rules,
        ("chain",),
    ),
    Check(
        "time",
        BOTH,
        "a time-out leaves a miner time to search, a second at least",
        "raise PERTURB_TIMEOUT_SECONDS (a validator's), or lower PERTURB_ANSWER_RESERVE_SECONDS (a miner's)",
        standing.check_time,
    ),
    Check(
        "publication",
        VALIDATOR,
        "the log is published, and no sooner than weights are revealed",
        "set PERTURB_PUBLISH_TO; leave PERTURB_PUBLISH_DELAY_BLOCKS unset: it is the reveal period then",
        standing.check_reveal,
        ("chain",),
    ),
    Check(
        "axon",
        MINER,
        "the announced address is public, and the one on chain",
        "set PERTURB_AXON_EXTERNAL_IP and PERTURB_AXON_PORT",
        reach.check_axon,
        ("registration",),
    ),
    Check(
        "port",
        MINER,
        "the port is free or a miner's, and reached through the announced address",
        "stop what listens there, or set PERTURB_AXON_PORT; open it in firewall and router",
        reach.check_port,
    ),
    Check(
        "loopback",
        BOTH,
        "the port of metrics and status on 127.0.0.1 is free or this neuron's",
        "set another PERTURB_METRICS_PORT",
        reach.check_loopback,
    ),
    Check(
        "processors",
        BOTH,
        "processors and memory as README's table of hardware says",
        "a larger machine; until then PERTURB_K_MINERS (a validator) or PERTURB_SEARCHES (a miner) asks less",
        machine.check_processors,
    ),
    Check(
        "disk",
        BOTH,
        "room in PERTURB_STATE_DIR and PERTURB_CACHE_DIR, and the right to write there",
        "free some, or name folders on a larger disk",
        machine.check_disk,
    ),
    Check(
        "files",
        BOTH,
        "a thousand open files",
        "raise LimitNOFILE in the unit, or `ulimit -n`",
        machine.check_files,
    ),
    Check(
        "gpu",
        BOTH,
        "the device of PERTURB_DEVICE is there, with enough memory",
        "install a driver that this torch takes, or set PERTURB_DEVICE",
        machine.check_gpu,
    ),
    Check(
        "clock",
        BOTH,
        "the clock is kept right, to a second",
        "start chrony or systemd-timesyncd on this machine (on the host of a container)",
        machine.check_clock,
    ),
    Check(
        "manifest",
        BOTH,
        f"{BOOTSTRAP} was run for this profile and version",
        BOOTSTRAP,
        holdings.check_manifest,
    ),
    Check(
        "data",
        VALIDATOR,
        "the data set's files are the manifest's; rows drawn at random are right",
        BOOTSTRAP,
        holdings.check_data,
        ("manifest",),
    ),
    Check(
        "model",
        BOTH,
        "the engine opens, and is of the manifest's model",
        BOOTSTRAP,
        holdings.check_model,
        ("manifest",),
    ),
    Check(
        "ledger",
        VALIDATOR,
        "the log and its key are there together, or neither is",
        "restore log.key with the ledger, or `perturb ledger rotate-key`",
        holdings.check_ledger,
    ),
    Check(
        "mirror",
        VALIDATOR,
        "where Weights & Biases is on, there is a key for it",
        "`wandb login`, or set WANDB_API_KEY, or PERTURB_WANDB_MODE=offline",
        holdings.check_mirror,
    ),
)

_PAGE = """# Readiness checklist

What must hold before a neuron is started. `perturb doctor` goes through it (`perturb doctor miner` for a
miner), says what it found, and what to do where it is not well; its exit code is 1 where something would stop
the neuron or spoil its work. It only looks: it writes and announces nothing.

Written by `perturb doctor --checklist`.
"""
_HEAD = "| check | must hold | otherwise |\n|---|---|---|\n"
_OUTSIDE = """
## What no program on this machine can tell

- [ ] From another machine, `curl http://ADDRESS:PORT/healthz` answers `{"status": "ok"}` (miners).
- [ ] Keys and the ledger's folder are backed up, and the backup was read back once.
- [ ] Somebody is told when `perturb_validator_round_age_seconds` grows (packaging/grafana).
- [ ] The coldkey's mnemonic is on paper, and not here.
"""


def examine(
    patient: Patient, begin: Callable[[Check], None] = lambda _: None
) -> Iterator[tuple[Check, CheckResult]]:
    """Go through the checks of the patient's role, one after the other; `begin` is told which comes next.

    What needs another check is not told where that one was bad: one cause is said once.
    """
    untold: set[str] = set()
    for check in CHECKS:
        if patient.role not in check.roles:
            continue
        begin(check)
        cause = next((name for name in check.needs if name in untold), None)
        found = unknown(f"not told: see {cause}") if cause else check.examine(patient)
        if cause or found.outcome is CheckOutcome.BAD:
            untold.add(check.name)
        yield check, found


def write_checklist() -> str:
    """docs/READINESS_CHECKLIST.md."""
    sections = []
    for title, roles in (("Validator and miner", BOTH), ("Validator", VALIDATOR), ("Miner", MINER)):
        rows = [f"| {one.name} | {one.holds} | {one.todo} |\n" for one in CHECKS if one.roles == roles]
        sections.append(f"\n## {title}\n\n{_HEAD}{''.join(rows)}")
    return _PAGE + "".join(sections) + _OUTSIDE
