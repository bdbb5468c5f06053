"""What is made of a ledger: a data set, a certificate, a report. Nothing here decides anything.

Rules
- Everything follows from a published log alone, and is derived from one stream: `attempts.read_attempts`.
- Vocabulary: an *image* is a row of a data set; a *round* is one challenge; an *attempt* is one miner's
  receipt; an image is *broken* when some attempt on it was accepted.
- Imports point to ledger, transparency, audit.rounds, receipts and classifier; none of them imports this.
"""
