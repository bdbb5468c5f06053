"""The miner's work: a challenge comes in, an answer goes out in time. `main` wires it together and serves."""
