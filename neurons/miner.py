"""The miner as a program.

python -m neurons.miner            all settings from the environment or PERTURB_CONFIG
perturb miner run                  the same
"""

from __future__ import annotations

from perturbnet.miner.main import main

if __name__ == "__main__":
    main()
