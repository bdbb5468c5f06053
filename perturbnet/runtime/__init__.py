"""The process and its machine: files, the clock, memory, signals, the watchdog; what a run was built from."""
