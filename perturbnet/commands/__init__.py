"""What the commands of `perturb` do, one file each; `cli.py` only parses and prints."""
