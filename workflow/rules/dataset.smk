# The data set's files, fetched or rendered, and the fingerprint of their pixels: one job for each file.

if plan.from_hub:

    checkpoint listing:
        output:
            place.listing,
        log:
            place.log("listing"),
        params:
            options=options,
        shell:
            "perturb data list {params.options} --out {output:q} &> {log:q}"

    rule fetch:
        # A list that was only written again does not make a file another one: what changed is in the records.
        input:
            listing=ancient(place.listing),
        output:
            place.fetched("{file}"),
        log:
            place.log("fetch/{file}"),
        params:
            options=options,
        shell:
            "perturb data fetch {params.options} --list {input.listing:q} --file {wildcards.file:q}"
            " --report {output:q} &> {log:q}"

else:

    rule render:
        output:
            [place.fetched(name) for name in plan.data_files()],
        log:
            place.log("render"),
        params:
            options=options,
        shell:
            "perturb data render {params.options} --report {output:q} &> {log:q}"


rule dataset:
    input:
        preparing.fetched_data(plan, checkpoints),


rule part:
    input:
        place.fetched("{file}"),
    output:
        record=place.part("{file}"),
        leaves=leaves_of(place.part("{file}")),
    log:
        place.log("part/{file}"),
    params:
        options=options,
        decoder=decoder_versions(),
    shell:
        "perturb fingerprint part {params.options} --file {wildcards.file:q} --out {output.record:q} &> {log:q}"


rule fingerprint:
    input:
        preparing.parts(plan, checkpoints),
    output:
        record=place.fingerprint,
        leaves=leaves_of(place.fingerprint),
    log:
        place.log("fingerprint"),
    params:
        profile=place.profile,
    shell:
        "perturb fingerprint merge --profile {params.profile:q} {input:q} --out {output.record:q} &> {log:q}"
