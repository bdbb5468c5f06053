"""The two programs of the network: wiring and loop only. What they do lives in `perturbnet`."""
