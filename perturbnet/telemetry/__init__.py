"""What a neuron lets be seen while it runs. It only looks: nothing here delays a round or decides anything.

`logs` writes lines for people or for machines; `metrics` are Prometheus numbers, `loopback` serves them (and
the validator's overview) on 127.0.0.1; `mirror` copies numbers to Weights & Biases. What fails here is said
once, counted, and the neuron goes on.
"""

from __future__ import annotations

from perturbnet.telemetry.logs import LOG_FORMATS, QUIET, setup_logging
from perturbnet.telemetry.loopback import Loopback, Page
from perturbnet.telemetry.metrics import FailureCount, new_registry
from perturbnet.telemetry.mirror import Mirror, WandbMirror, open_mirror

__all__ = [
    "LOG_FORMATS",
    "QUIET",
    "FailureCount",
    "Loopback",
    "Mirror",
    "Page",
    "WandbMirror",
    "new_registry",
    "open_mirror",
    "setup_logging",
]
