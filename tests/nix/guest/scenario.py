"""What happens in the guest: the rendered units run a local network, and are stopped, killed and probed.

Runs as root in the guest, started by its unit `trial`, with nothing but Debian's Python; this project runs in
the environment that the share `env` brings. Each finding is one JSON line on the second serial line. What
was found is judged by the test on the host, not here; only a step that never comes ends the trial.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

TRIAL = Path("/mnt/trial")
HOME = Path("/opt/perturb")
PYTHON = HOME / ".venv" / "bin" / "python"
PERTURB = HOME / ".venv" / "bin" / "perturb"
SITE = HOME / ".venv" / "lib" / "python3.11" / "site-packages"
SERIAL, RESULTS = Path("/dev/ttyS1"), Path("/srv/results.jsonl")  # of a machine, of a container
CONFIG = Path("/etc/perturb")
UNITS = Path("/etc/systemd/system")
NETWORK = Path("/srv/network")
VALIDATOR, MINER, PROBE = "perturb-validator", "perturb-miner", "perturb-validator-probe"
WATCHDOG_S = 20
SETTINGS = """\
NETWORK=local
NETUID=1
PERTURB_LOCAL_CHAIN=/srv/network/chain.sqlite
PERTURB_PROFILE=reference
PERTURB_DEVICE=cpu
LOG_LEVEL=INFO
PERTURB_LOG_FORMAT=text
OMP_NUM_THREADS=1
"""
SHORT = """\
PERTURB_TIMEOUT_SECONDS=15
PERTURB_QUERY_INTERVAL_SECONDS=2
PERTURB_CHALLENGE_RETRY_DELAY_SECONDS=2
PERTURB_HISTORY_SIZE=2
PERTURB_MIN_PROCESSED_COUNT=2
"""
CHAIN = """\
import asyncio, json
from pathlib import Path
from perturbnet.chain import LocalChain
async def main():
    chain = LocalChain(Path("/srv/network/chain.sqlite"))
    metagraph = await chain.metagraph()
    own = next(neuron.uid for neuron in metagraph.neurons if neuron.validator_permit)
    print(json.dumps({"block": metagraph.block, "weights": (await chain.weights(own)).weights}))
asyncio.run(main())
"""
T = TypeVar("T")
BEGAN_S = time.monotonic()


def report(name: str, **found: Any) -> None:
    """One finding to the host, and to the console."""
    line = json.dumps({"name": name, "at_s": round(time.monotonic() - BEGAN_S, 1), **found})
    with (RESULTS if RESULTS.exists() else SERIAL).open("a") as stream:
        stream.write(line + "\n")
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(*command: str | Path, check: bool = True, **options: Any) -> str:
    """A command's output, without its last newline."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, **options
    )
    if check and done.returncode:
        raise RuntimeError(
            f"{command} ended with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
        )
    return done.stdout.rstrip("\n")


def until(what: str, ask: Callable[[], T | None], *, within_s: float) -> T:
    """Ask again and again for something that is not None or False."""
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        found = ask()
        if found:
            return found
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {within_s:.0f} s")


def show(unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def journal(unit: str) -> str:
    """What a unit has said, and what systemd has said about it."""
    return run("journalctl", "--no-pager", "-o", "cat", "-u", unit)


def rounds_closed() -> int:
    """How many rounds the validator has closed, over all its starts."""
    return len(set(re.findall(r"Round (\d+) closed", journal(VALIDATOR))))


def prepare_environment() -> None:
    """A virtual environment of the guest's Python, with the host's packages and this project's code."""
    share = HOME / "env"
    share.mkdir(parents=True, exist_ok=True)
    if not share.is_mount():
        options = "trans=virtio,version=9p2000.L,ro,cache=loose,msize=1048576"
        run("mount", "-t", "9p", "-o", options, "env", share)
    shutil.copytree(TRIAL / "code", HOME / "code")
    run("/usr/bin/python3", "-m", "venv", "--without-pip", HOME / ".venv")
    (SITE / "here.pth").write_text(f"{HOME / 'code'}\n{share}\n")
    PERTURB.write_text(f"#!{PYTHON}\nfrom perturbnet.cli import main\nmain(prog_name='perturb')\n")
    PERTURB.chmod(0o755)
    report(
        "environment",
        python=run(PYTHON, "-VV"),
        systemd=run("systemctl", "--version").splitlines()[0],
        kernel=os.uname().release,
    )


def prepare_network() -> None:
    """Chain, keys, settings, homes that nobody may read."""
    run(PYTHON, HOME / "code" / "tests" / "nix" / "open_network.py", NETWORK, "validator", "miner")
    CONFIG.mkdir(mode=0o755)
    for role, more in (
        ("validator", SHORT),
        ("miner", "PERTURB_AXON_BIND=127.0.0.1\nPERTURB_ATTACK=pgd\nPERTURB_METRICS_PORT=0\n"),
    ):
        (CONFIG / f"perturb-{role}.env").write_text(
            f"{SETTINGS}{more}PYTHONPYCACHEPREFIX=/var/cache/perturb-{role}/pycache\n"
        )
        key = CONFIG / f"perturb-{role}.hotkey"
        shutil.copy(NETWORK / f"{role}.hotkey", key)
        key.chmod(0o600)
    shutil.rmtree(NETWORK / "wallets")
    for home in (Path("/home/alice"), Path("/root")):
        home.mkdir(exist_ok=True)
        (home / "secret").write_text("nobody's business")


def install_units() -> None:
    """The units as `perturb unit` prints them here, each with the two lines a local chain needs."""
    same = {}
    for words in (["validator"], ["miner"], ["bootstrap"], ["bootstrap", "--for", "miner"]):
        text = run(PERTURB, "unit", *words, "--program", PERTURB) + "\n"
        name = re.findall(r"/etc/systemd/system/(\S+\.service)", text)[0]
        (UNITS / name).write_text(text)
        same[name] = text == (TRIAL / "code" / "packaging" / "systemd" / name).read_text()
    for name in (VALIDATOR, MINER, PROBE):
        drop_in(
            name, f"ReadWritePaths={NETWORK}\n" + ("" if name == PROBE else f"WatchdogSec={WATCHDOG_S}\n")
        )
    run("systemctl", "daemon-reload")
    report("units", equal_to_committed=same)


def drop_in(name: str, lines: str) -> None:
    """What this trial changes in a unit."""
    folder = UNITS / f"{name}.service.d"
    folder.mkdir(exist_ok=True)
    (folder / "trial.conf").write_text(f"[Service]\n{lines}")


def weights_on_chain() -> dict[str, Any] | None:
    """The validator's weights, when it has set some."""
    found: dict[str, Any] = json.loads(run(PYTHON, "-c", CHAIN))
    return found if found["weights"] else None


def start() -> None:
    """Both neurons at once; their bootstraps come first by themselves."""
    began_s = time.monotonic()
    run("systemctl", "start", f"{MINER}.service", f"{VALIDATOR}.service")
    seconds = round(time.monotonic() - began_s, 1)
    until(
        "what both do",
        lambda: all(show(unit, "StatusText")["StatusText"] for unit in (VALIDATOR, MINER)),
        within_s=60,
    )
    report(
        "started",
        seconds=seconds,
        validator=show(VALIDATOR, "ActiveState", "SubState", "StatusText", "WatchdogUSec", "User"),
        miner=show(MINER, "ActiveState", "SubState", "StatusText", "WatchdogUSec", "User"),
        bootstrap=show(f"{VALIDATOR}-bootstrap", "Result", "ExecMainStatus"),
    )
    until("three rounds", lambda: rounds_closed() >= 3, within_s=400)
    found = until("weights", weights_on_chain, within_s=200)
    report("weights", rounds=rounds_closed(), exposure=exposures(), **found)


def exposures() -> dict[str, str]:
    """systemd's own figure of the running units."""
    found = {}
    for unit in (VALIDATOR, MINER):
        text = run("systemd-analyze", "security", "--no-pager", f"{unit}.service")
        found[unit] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", text)[0]
    return found


def main_process(unit: str) -> int:
    """The unit's main process; 0 while there is none."""
    return int(show(unit, "MainPID")["MainPID"])


def interrupt(unit: str, name: str, number: signal.Signals) -> None:
    """Send a signal to a neuron, and wait until systemd has it running again, and a validator at work."""
    before, rounds = main_process(unit), rounds_closed()
    restarts = int(show(unit, "NRestarts")["NRestarts"])
    began_s = time.monotonic()
    os.kill(before, number)
    until(f"end of {unit}", lambda: main_process(unit) != before, within_s=WATCHDOG_S + 60)
    ended_s = time.monotonic() - began_s
    until(
        f"{unit} again",
        lambda: (
            show(unit, "ActiveState")["ActiveState"] == "active" and main_process(unit) not in {0, before}
        ),
        within_s=300,
    )
    again_s = time.monotonic() - began_s
    if unit == VALIDATOR:
        until("another round", lambda: rounds_closed() > rounds, within_s=300)
    said = [line for line in journal(unit).splitlines() if re.search(MARKS, line)]
    report(
        name,
        ended_after_s=round(ended_s, 1),
        running_after_s=round(again_s, 1),
        rounds_before=rounds,
        rounds_after=rounds_closed(),
        restarts_before=restarts,
        restarts=int(show(unit, "NRestarts")["NRestarts"]),
        said=said[-12:],
    )


MARKS = re.compile(
    r"Watchdog timeout|Killing process|code=killed|code=dumped|Failed with|Scheduled restart|"
    r"Resuming|cut short|Fatal Python error|No progress"
)


def probe() -> None:
    """The same attempts in a unit's sandbox and as root without one."""
    text = run(PERTURB, "unit", "validator", "--instance", "probe", "--program", PERTURB) + "\n"
    (UNITS / f"{PROBE}.service").write_text(text)
    for kind in ("env", "hotkey"):
        shutil.copy(CONFIG / f"{VALIDATOR}.{kind}", CONFIG / f"{PROBE}.{kind}")
    with (CONFIG / f"{PROBE}.env").open("a") as stream:
        stream.write(f"MINER_PID={main_process(MINER)}\n")
    shutil.copy(TRIAL / "probe.py", HOME / "probe.py")
    drop_in(
        PROBE,
        f"Type=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\n"
        f"ExecStart={PYTHON} {HOME}/probe.py /var/lib/{PROBE}/probe.json\n",
    )
    run("systemctl", "daemon-reload")
    run("systemctl", "start", f"{PROBE}.service")
    report("probe", **json.loads(Path(f"/var/lib/private/{PROBE}/probe.json").read_text()))
    Path("/srv/probe").mkdir()
    as_root = {
        "MINER_PID": str(main_process(MINER)),
        "STATE_DIRECTORY": "/srv/probe",
        "CACHE_DIRECTORY": "/srv/probe",
        "PERTURB_HOTKEY_FILE": str(CONFIG / f"{PROBE}.hotkey"),
    }
    run(PYTHON, HOME / "probe.py", "/srv/probe.json", env=os.environ | as_root)
    report("control", **json.loads(Path("/srv/probe.json").read_text()))


def restore() -> None:
    """What docs/operations.md says: back up a running validator, lose its state, restore, go on."""
    state = Path(f"/var/lib/private/{VALIDATOR}")
    lines = (CONFIG / f"{VALIDATOR}.env").read_text().splitlines()
    own = {"PERTURB_STATE_DIR": str(state), "PERTURB_CACHE_DIR": f"/var/cache/private/{VALIDATOR}"}
    environment = os.environ | dict(line.split("=", 1) for line in lines) | own
    run(PERTURB, "state", "backup", "/srv/backup", env=environment)
    run("systemctl", "stop", f"{VALIDATOR}.service")
    before = rounds_closed()
    state.rename("/srv/lost")
    run(PERTURB, "state", "restore", "/srv/backup", env=environment)
    run("systemctl", "start", f"{VALIDATOR}.service")
    until("a round after the restore", lambda: rounds_closed() > before, within_s=300)
    owners = {path.stat().st_uid for path in [state, *state.rglob("*")]}
    resumed = re.findall(r"Resuming: .*", journal(VALIDATOR))
    report(
        "restored", rounds_before=before, rounds_after=rounds_closed(), owners=len(owners), said=resumed[-1:]
    )


def refuse_wrong_settings() -> None:
    """A setting that is not allowed ends a miner with 2, and systemd does not start it again."""
    name = f"{MINER}-wrong"
    (UNITS / f"{name}.service").write_text(
        run(PERTURB, "unit", "miner", "--instance", "wrong", "--program", PERTURB)
    )
    (CONFIG / f"{name}.env").write_text(SETTINGS.replace("NETUID=1", "NETUID=many"))
    shutil.copy(CONFIG / f"{MINER}.hotkey", CONFIG / f"{name}.hotkey")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", f"{name}.service", check=False)
    time.sleep(15)
    state = show(name, "ActiveState", "ExecMainStatus", "NRestarts")
    report("wrong setting", said=journal(name).splitlines()[-6:], **state)


def stop() -> None:
    """An orderly stop of both, and what they left."""
    began_s = time.monotonic()
    run("systemctl", "stop", f"{VALIDATOR}.service", f"{MINER}.service")
    seconds = round(time.monotonic() - began_s, 1)
    left = {unit: show(unit, "Result", "ExecMainStatus") for unit in (VALIDATOR, MINER)}
    state = sorted(path.name for path in Path(f"/var/lib/private/{VALIDATOR}").iterdir())
    report("stopped", seconds=seconds, results=left, state=state, rounds=rounds_closed())


def try_step(step: Callable[[], None]) -> bool:
    """One step; what goes wrong is reported with the end of every journal. Says whether it went well."""
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the outermost edge: the host must learn of it
        units = (f"{VALIDATOR}-bootstrap", f"{MINER}-bootstrap", VALIDATOR, MINER, PROBE)
        tails = {unit: journal(unit)[-3000:] for unit in units}
        name = getattr(step, "__name__", repr(step))
        report("failed", step=name, error=f"{type(error).__name__}: {error}", journals=tails)
        return False
    return True


def main() -> None:
    """All of it, in order. Without a running network there is nothing to try; else each step stands alone."""
    if not all(map(try_step, (prepare_environment, prepare_network, install_units, start))):
        return
    for step in (
        partial(interrupt, VALIDATOR, "stopped loop", signal.SIGSTOP),
        partial(interrupt, VALIDATOR, "kill -9", signal.SIGKILL),
        partial(interrupt, MINER, "miner kill -9", signal.SIGKILL),
        probe,
        restore,
        refuse_wrong_settings,
        stop,
    ):
        try_step(step)
    report("end")


if __name__ == "__main__":
    main()
