# `snakemake export --config bundle=PLACE [export_out=dataset] …`: a data set out of a published log, in parts,
# on any executor; the same bytes as `perturb export dataset`.
#
# The plan fixes how many leaves are exported and their root, and every part checks that the log it reads begins
# with them. The marks go when all is done: a later call plans anew, and adds what the log has grown by. The
# parts share the data set's folder.
from perturbnet.adversarial_dataset import workflow as exporting

exported = exporting.read_config(config)


wildcard_constraints:
    share=r"\d+-of-\d+",


localrules:
    export,


rule export:
    # Prints what the data set holds.
    input:
        exported.parts(),
    log:
        exported.log("export"),
    params:
        out=exported.out,
        key=exported.key,
    shell:
        "perturb export finish {params.out:q} {params.key} 2>&1 | tee {log:q}; rm {input:q}"


rule export_plan:
    # Reads every leaf once: about a minute for a million.
    output:
        temp(exported.plan),
    log:
        exported.log("plan"),
    params:
        bundle=exported.bundle,
        out=exported.out,
        wishes=exported.wishes,
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    shell:
        "perturb export plan {params.bundle:q} {params.out:q} {params.wishes} --done {output:q} &> {log:q}"


rule export_part:
    input:
        exported.plan,
    output:
        exported.part("{share}"),
    log:
        exported.log("{share}"),
    params:
        bundle=exported.bundle,
        out=exported.out,
        profile=exported.profile,
        share=lambda wildcards: wildcards.share.replace("-of-", "/"),
    threads: 1
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "perturb export part {params.bundle:q} {params.out:q} --part {params.share} {params.profile}"
        " --done {output:q} &> {log:q}"
