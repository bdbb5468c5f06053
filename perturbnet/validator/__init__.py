"""The validator's work, one step a file: journal, draws, rounds, receipts, weights, and how a run starts."""
