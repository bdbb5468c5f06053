"""The validator's work, one step a file: journal, draws, rounds, receipts, weights. `neurons/validator.py` wires and loops."""
