"""The miner's work: a challenge comes in, an answer goes out in time. `neurons/miner.py` wires and serves."""
