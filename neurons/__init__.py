"""The two programs of the network: what they do lives in `perturbnet.validator` and `perturbnet.miner`."""
