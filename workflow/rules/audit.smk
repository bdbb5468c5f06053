# `snakemake audit --config bundle=PLACE hotkey=SS58 …`: an audit in parts, on any executor, and one report.
#
# The plan fixes how many leaves are audited and their root; every part checks that the log it reads begins
# with them. One part reads the log's history; each of the others recomputes the receipts of a range of leaves
# and loads data set and model once. A part that finds something has done its work: the last rule says so.
from perturbnet.auditing import workflow as auditing

audited = auditing.read_config(config)


wildcard_constraints:
    part=r"log|\d+-of-\d+",


localrules:
    audit,
    audit_plan,
    audit_anchors,


rule audit:
    # Prints the report again at every call; exit code 1 when it holds a finding.
    input:
        audited.parts(),
    log:
        audited.log("audit"),
    params:
        report=audited.report,
    shell:
        "perturb audit merge {input:q} --json {params.report:q} 2>&1 | tee {log:q}"


rule audit_plan:
    output:
        audited.plan,
    log:
        audited.log("plan"),
    params:
        bundle=audited.bundle,
    shell:
        "perturb audit plan {params.bundle:q} --out {output:q} &> {log:q}"


rule audit_anchors:
    output:
        audited.anchors,
    log:
        audited.log("anchors"),
    params:
        source=audited.anchors_from,
        hotkey=audited.hotkey,
        options=audited.subnet,
    shell:
        "if [ {params.source:q} = chain ];"
        " then perturb audit anchors --hotkey {params.hotkey:q} {params.options} --out {output:q};"
        " else cp {params.source:q} {output:q}; fi &> {log:q}"


rule audit_part:
    input:
        plan=audited.plan,
        anchors=audited.anchors,
    output:
        audited.part("{part}"),
    log:
        audited.log("{part}"),
    params:
        bundle=audited.bundle,
        hotkey=audited.hotkey,
        options=audited.options,
        part=lambda wildcards: wildcards.part.replace("-of-", "/"),
    threads: 1
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        # 1 is a finding, and the report has it; without a report the job has failed all the same.
        "perturb audit {params.bundle:q} --hotkey {params.hotkey:q} --anchors {input.anchors:q}"
        " --plan {input.plan:q} --part {params.part} {params.options} --json {output:q} &> {log:q}"
        " || test $? -eq 1"
