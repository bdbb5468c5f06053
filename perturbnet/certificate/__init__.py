"""The robustness certificate: how a model stood up in a log, signed by the log's key, recorded in the log.

    predicate       what a certificate says, as types, and what can be gathered from a log
    wording         its sentences: threat model, caveats, which parts serve which framework
    envelope        its form: in-toto Statement v1 in a DSSE envelope
    issuing         from a log and its key to a certificate
    verification    the numbered steps of a reader who trusts nobody
    arithmetic      one of them: shares and intervals from counts
    findings        what the steps say
    cyclonedx       the same numbers as a CycloneDX model card

It becomes a leaf in `validator.certificates`. A certificate is an empirical upper bound;
it proves no robustness.
"""
