"""A whole network on one machine: chain file, wallets, one validator, miners good and bad, each its own process."""
