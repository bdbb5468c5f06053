"""The miner's work: from a challenge to the best verified answer in time. `neurons/miner.py` wires it to the axon."""
