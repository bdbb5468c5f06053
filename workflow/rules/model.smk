# The weights, and the artefact compiled from them. The reference profile ships both in the package.


rule weights:
    input:
        preparing.fetched_weights(plan),


if plan.compiles:

    rule compile:
        input:
            preparing.fetched_weights(plan),
        output:
            artefact=plan.artefact,
            note=plan.artefact_note,
        log:
            place.log("compile"),
        params:
            profile=place.profile,
        shell:
            "perturb model compile --profile {params.profile:q} --out {output.artefact:q} &> {log:q}"


rule model:
    input:
        [plan.artefact, plan.artefact_note] if plan.compiles else [],
    output:
        place.model,
    log:
        place.log("model"),
    params:
        profile=place.profile,
    shell:
        "perturb manifest model --profile {params.profile:q} --out {output:q} &> {log:q}"
