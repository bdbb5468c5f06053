"""Run the workflow for somebody who does not know Snakemake: the same rules, a bar, and errors in sentences.

The Snakefile lies beside the package in a checkout and under `share/perturb` of an installation. Its working
folder, where Snakemake keeps its own notes, is the profile's folder in the cache, so nothing is written to
where the program lies. What Snakemake says goes to `logs/snakemake.log` there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from perturbnet.bootstrap.plan import BootstrapPlan, is_complete
from perturbnet.bootstrap.progress import BootstrapStatus, take_standing
from perturbnet.errors import ArtifactError
from perturbnet.runtime.shipped import require_shipped

_POLL_S = 0.2
_SAID = "perturb: "


def find_snakefile() -> Path:
    """Return the Snakefile that belongs to this package.

    Raises:
        ArtifactMissing: there is none; the hint says where it was looked for.

    """
    return require_shipped("Snakefile", "Snakefile")


def command_of(
    plan: BootstrapPlan, targets: Sequence[str], *, cores: int | None, paranoid: bool
) -> list[str]:
    """Return the command that runs targets; the default profile beside the Snakefile applies."""
    snakefile = find_snakefile()
    config = [f"profile={plan.place.profile}", *([f"pins={plan.pins}"] if plan.pins else [])]
    return [
        *(sys.executable, "-m", "snakemake", *targets),
        *(
            "--snakefile",
            str(snakefile),
            "--workflow-profile",
            str(snakefile.parent / "profiles" / "default"),
        ),
        *("--directory", str(plan.place.folder), "--cores", "all" if cores is None else str(cores)),
        *("--config", *config, *(["paranoid=true"] if paranoid else [])),
    ]


def run_workflow(
    plan: BootstrapPlan,
    targets: Sequence[str] = ("bootstrap",),
    *,
    show: Callable[[BootstrapStatus, str], None],
    cores: int | None = None,
    paranoid: bool = False,
) -> None:
    """Run targets to their end; `show` is told a few times a second how far it is and the step under way.

    Raises:
        ArtifactError: a step failed; the message is what the failed steps said.
        ArtifactMissing: there is no Snakefile.

    """
    log = plan.place.log("snakemake")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = command_of(plan, targets, cores=cores, paranoid=paranoid)
    environment = {**os.environ, "PERTURB_CACHE_DIR": str(plan.place.cache_dir)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while process.poll() is None:
                show(take_standing(plan), _newest_step(log))
                time.sleep(_POLL_S)
        except BaseException:
            # Ctrl-C reaches the child too; it stops its jobs, and what they fetched so far stays.
            process.terminate()
            process.wait()
            raise
    show(take_standing(plan), "")
    if process.returncode:
        raise ArtifactError(_what_failed(log), hint=f"Everything that was said: {log}")


def ensure(plan: BootstrapPlan, *, show: Callable[[BootstrapStatus, str], None]) -> bool:
    """Prepare a profile unless everything is there already; return whether anything was done.

    Raises:
        ArtifactError, ArtifactMissing, DigestMismatch: see `run_workflow` and `plan.is_complete`.

    """
    if is_complete(plan):
        return False
    run_workflow(plan, show=show)
    return True


def _newest_step(log: Path) -> str:
    """The rule that began last, as Snakemake names it in its log."""
    lines = [line.split() for line in _tail(log) if line.startswith(("localrule ", "localcheckpoint "))]
    return lines[-1][1].rstrip(":") if lines else ""


def _what_failed(log: Path) -> str:
    """What our own commands said before they failed, each once; else the end of the log.

    Snakemake shows the log of a failed step between two rulers.
    """
    blocks = re.findall(r"^Logfile [^\n]*:\n=+\n(.*?)^=+$", "\n".join(_tail(log)), re.MULTILINE | re.DOTALL)
    said = [block.rpartition(_SAID)[2].strip() for block in blocks]
    return "\n".join(dict.fromkeys(said)) or "\n".join(_tail(log)[-12:])


def _tail(log: Path) -> list[str]:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - (1 << 18)))
        return file.read().decode(errors="replace").splitlines()
