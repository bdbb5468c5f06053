# What all rules share: the plan, our own lock, and how a rule calls `perturb`.
import shlex
import sys

from snakemake.exceptions import WorkflowError

from perturbnet.bootstrap import workflow as preparing
from perturbnet.bootstrap.fingerprint import decoder_versions
from perturbnet.bootstrap.records import leaves_of
from perturbnet.errors import PerturbError

try:
    plan = preparing.open_plan(config, main=workflow.is_main_process)
except PerturbError as error:
    raise WorkflowError(error.diagnostics()) from None
place = plan.place
options = shlex.join(plan.options)

# The `perturb` of this very environment, whatever PATH says. Not a param: another path is not another recipe.
# A prefix takes the place of Snakemake's own, so that is repeated. Braces are doubled twice: here and by
# Snakemake, which formats the prefix too.
shell.prefix(
    "set -euo pipefail; "
    f'perturb() {{{{ {shlex.quote(sys.executable)} -m perturbnet.cli "$@"; }}}}; '
)


wildcard_constraints:
    file=r"[\w./-]+",


onstart:
    preparing.start_telling(plan)


onsuccess:
    preparing.tell_end(plan)
