# The root of every workflow: `snakemake bootstrap`, or one of its targets dataset, weights, model, fingerprint;
# `snakemake audit`; and `snakemake export`.
#
# It only wires: rules call `perturb …` commands, and those do the work. Choose the profile with
# `--config profile=reference` or PERTURB_PROFILE; everything is kept in PERTURB_CACHE_DIR. profiles/default
# sets cores and locks. It runs from a read-only copy: snakemake --snakefile COPY/Snakefile --directory ANYWHERE

from pathlib import Path

from snakemake.utils import min_version, validate

min_version("9.27")


configfile: Path(workflow.basedir, "config", "bootstrap.yaml")


validate(config, Path(workflow.basedir, "workflow", "schemas", "config.schema.yaml"))


include: "workflow/rules/common.smk"
include: "workflow/rules/bootstrap.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/export.smk"
