"""What the Snakefile asks Python for: the plan, our lock, the files of a target, and a word now and then.

Snakemake's own lock is a folder that kill -9 leaves behind; ours is the kernel's (flock) and is held by the
process itself, from before the first look at the records to its end. A second bootstrap of the same profile
waits and then finds nothing to do. Whoever only looks (`--dry-run`, `--lint`, `--report` and such) takes no
lock and forgets no record, and so does who runs another workflow.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perturbnet.bootstrap.holdings import open_manifest
from perturbnet.bootstrap.plan import BootstrapPlan, forget_untrue, plan_from
from perturbnet.bootstrap.progress import take_standing
from perturbnet.errors import PerturbError

TARGETS = ("bootstrap", "dataset", "weights", "model", "fingerprint")
TELL_EVERY_S = 10.0
_ONLY_LOOKS = re.compile(
    r"-(?![cjsdk])[A-Za-z]*[nlDS][A-Za-z]*|--(dry-?run|lint|report|unlock|summary|detailed-summary|list.*|dag|rulegraph|filegraph|"
    r"d3dag|version|help|archive|delete-.*|cleanup-.*|print-compilation|touch)(=.*)?|-[htRv]"
)
_OTHERS = re.compile(r"audit|export")  # targets of other workflows, which neither lock nor change the records
_held: list[int] = []  # descriptors of locks; the kernel releases them when this process ends

Files = Callable[..., list[str]]


def open_plan(
    config: Mapping[str, Any], *, main: bool, arguments: Sequence[str] | None = None
) -> BootstrapPlan:
    """Return the plan; in the process that does the work, lock it and forget records that are not true.

    Raises:
        PerturbError: a setting is wrong; the files are unchanged but their pixels are not.

    """
    plan = plan_from(config, os.environ)
    argv = sys.argv[1:] if arguments is None else arguments
    only_looks = any(_ONLY_LOOKS.fullmatch(argument) for argument in argv)
    elsewhere = any(_OTHERS.fullmatch(argument) for argument in argv) and not set(TARGETS) & set(argv)
    if main and not only_looks and not elsewhere:
        _lock(plan)
        for sentence in forget_untrue(plan, paranoid=bool(config.get("paranoid"))):
            _say(f"{sentence}: it is made anew")
    return plan


def fetched_data(plan: BootstrapPlan, checkpoints: Any) -> Files:
    """Return an input function: the records of the data set's files, once they are listed."""
    return lambda _: [str(plan.place.fetched(name)) for name in _data_files(plan, checkpoints)]


def parts(plan: BootstrapPlan, checkpoints: Any) -> Files:
    """Return an input function: the parts of the fingerprint, once the files are listed."""
    return lambda _: [str(plan.place.part(name)) for name in _data_files(plan, checkpoints)]


def fetched_weights(plan: BootstrapPlan) -> list[str]:
    """Return the records of the weights' files; none where they are in the package."""
    return [str(plan.place.fetched(name)) for name in plan.weight_names()]


def start_telling(plan: BootstrapPlan) -> None:
    """Say every few seconds how far it is, in a line, as long as it moves."""
    threading.Thread(target=_tell, args=(plan,), daemon=True).start()


def tell_end(plan: BootstrapPlan) -> None:
    """Say the protocol fingerprint, if there is one now."""
    if plan.place.manifest.exists():
        _say(f"protocol fingerprint {open_manifest(plan.place).digest}")


def _data_files(plan: BootstrapPlan, checkpoints: Any) -> list[str]:
    if plan.from_hub:
        checkpoints.listing.get()  # not listed yet: Snakemake runs that first and asks again
    return plan.data_files()


def _lock(plan: BootstrapPlan) -> None:
    plan.place.folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(plan.place.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say(f"another bootstrap of {plan.place.profile} is under way: waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
    _held.append(handle)


def _tell(plan: BootstrapPlan) -> None:
    said = ""
    while True:
        time.sleep(TELL_EVERY_S)
        try:
            now = str(take_standing(plan))
        except PerturbError:
            continue
        if now != said:
            _say(now)
        said = now


def _say(text: str) -> None:
    sys.stderr.write(f"perturb: {text}\n")
    sys.stderr.flush()
