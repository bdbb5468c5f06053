"""The process and its machine: files, wallets, clock, memory, signals, watchdog; what it was built from."""
