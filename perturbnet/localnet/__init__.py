"""A whole network on one machine: chain file, wallets, a validator, miners good and bad, each a process."""
