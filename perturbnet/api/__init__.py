"""The public API: what `import perturbnet` offers, for whoever holds images, a model or a published log.

Rules
- Every function calls the code of the network's own rooms, as the command line does: a verdict, a score and
  an audit are the same everywhere. Nothing is checked or computed twice.
- The network's rules are the defaults. The environment says only where things lie and run (the cache, the
  device, the chain), never by which rules something is judged.
- What a caller gives is checked at once, and refused by an `ArgumentError` that names the value and what is
  allowed. What comes from a stranger (a response, a log, a data set) is hostile, as in the network.
- Nothing heavy is imported before it is needed, and `perturbnet` imports these modules only when a name is
  asked for.

    arguments   what a caller gives, checked
    models      load_model, Classifier
    verdicts    verify, score, default_rules
    attacking   attack, AttackOutcome
    evaluating  evaluate
    auditing    audit
"""
