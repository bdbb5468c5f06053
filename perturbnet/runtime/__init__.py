"""The process and its machine: files, wallets, the clock, memory, signals, watchdog; what it was built from."""
