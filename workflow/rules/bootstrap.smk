# From fingerprint and model to the manifest, its page, and the target that wants everything.


rule bootstrap:
    # Every record is named, so one that was deleted is made again although nothing newer needs it.
    input:
        fetched=preparing.fetched_data(plan, checkpoints),
        weights=preparing.fetched_weights(plan),
        parts=preparing.parts(plan, checkpoints),
        fingerprint=[place.fingerprint, leaves_of(place.fingerprint)],
        model=place.model,
        manifest=place.manifest,
        report=place.report,


rule manifest:
    input:
        fingerprint=place.fingerprint,
        leaves=leaves_of(place.fingerprint),
        model=place.model,
    output:
        place.manifest,
    log:
        place.log("manifest"),
    params:
        options=options,
    shell:
        "perturb manifest build {params.options} --out {output:q} &> {log:q}"


rule page:
    input:
        manifest=place.manifest,
        fingerprint=place.fingerprint,
        fetched=preparing.fetched_data(plan, checkpoints),
    output:
        report(place.report, category="Bootstrap", labels={"page": "what this node holds"}),
    log:
        place.log("page"),
    params:
        options=options,
    shell:
        "perturb manifest page {params.options} --out {output:q} &> {log:q}"
