"""The audit: a stranger recomputes a validator's whole life from what it published, bit for bit.

The steps, in this order; every finding names its step.

    1. signature   the note is signed by a log key that the hotkey delegated in leaf 0
    2. anchors     each anchor from the chain pins a prefix of this log; the newest pins all before it
    3. leaves      every leaf is in the tree, canonical, of a known kind
    4. sequence    each leaf can follow the ones before it: every receipt has its challenge
    5. draws       rows, freshness and selection seeds follow from the keys committed to before the epoch
    6. challenges  epsilon from the block, miners from the seed, image from the data set
    7. answers     signatures, distortion, gates, scores, duplicates: from the pixels, without the model
    8. labels      labels and logits of both images: with the model
    9. weights     each vector from the histories

Rules
- The rules are the validator's own pure functions (`verification`, `scoring`, `selection`, `traversal`,
  `weights`, `receipts`, `terms`, the ledger's folds). Nothing is stated twice.
- Steps 1 to 6 and 9 read the log once, in order (`history`); 7 and 8 look at one round at a time (`answers`),
  so they can be sampled, sharded and merged.
- What nobody can recompute is counted and printed as attested: times, time-outs and other codes of the
  transport, blocks, metagraph snapshots, interruptions, what the chain said to a submission.
- Anchors never come from the bundle. None given is a finding.

Source: docs/ledger.md; the shape of sigstore-python's verifier (numbered steps).
"""
