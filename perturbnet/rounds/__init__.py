"""One round, for whoever runs it or recomputes it: from a draw to receipts, and from a log back to rounds.

    draws, posing, challenges      which image is sent, as which challenge
    policy, terms                  under which rules, as settings and as leaves
    judging, receipts              from the answers to verdicts, scores and receipts
    acknowledgements               what the miners are told
    logged, attempts, pixels       a log cut into rounds, and the images of a round again

The validator runs rounds; the auditor, an evaluation and the products read them. All use this room, so that
nothing about a round is stated twice.
"""
