"""The validator as a program.

python -m neurons.validator            all settings from the environment or PERTURB_CONFIG
perturb validator run                  the same
"""

from __future__ import annotations

from perturbnet.validator.main import main

if __name__ == "__main__":
    main()
