"""How good an attack is: every attack on the same challenges, each with one clock, judged by the verifier.

Rules
- Challenges are drawn as validators draw them, freshness included, from rows the network was not trained on
  and no attack was tuned on.
- One run per image and attack; its anytime trace (every improvement the verifier accepted, and when) gives
  the score at every time budget.
- On the virtual clock a pass costs a stated time, so a table does not depend on the machine. Wall time is
  measured beside it.
"""
