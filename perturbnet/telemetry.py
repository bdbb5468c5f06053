"""What a neuron says while it runs: log lines for people and the journal, and a mirror of numbers to Weights & Biases.

The mirror is a mirror: when it fails the validator says so once and goes on.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from perturbnet.config import Settings

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
QUIET = ("httpx", "urllib3", "uvicorn", "asyncio", "filelock", "fsspec", "datasets", "PIL", "websockets", "bittensor")

log = logging.getLogger(__name__)


def setup_logging(level: str) -> None:
    """Write lines to standard error, in UTC; libraries only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(LINE, datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class Mirror:
    """Sends numbers somewhere; this one sends them nowhere."""

    def send(self, numbers: Mapping[str, float], *, step: int) -> None:
        """Mirror the numbers of one round."""

    def close(self) -> None:
        """Finish."""


class WandbMirror(Mirror):
    """Weights & Biases."""

    def __init__(self, settings: Settings, identity: Mapping[str, str | int]) -> None:
        """Begin a run with the named settings; `identity` says which validator it is."""
        import wandb  # noqa: PLC0415 - two seconds to import, and off by default

        self._wandb = wandb
        self._run: Any = wandb.init(
            project=settings.wandb_project,
            entity=settings.wandb_entity,
            name=settings.wandb_run_name,
            mode=settings.wandb_mode,  # type: ignore[arg-type]  # one of the three words, checked by the registry
            dir=str(settings.state_dir),
            config=dict(identity),
            settings=wandb.Settings(console="auto" if settings.wandb_log_console else "off"),
        )

    def send(self, numbers: Mapping[str, float], *, step: int) -> None:
        """See `Mirror`."""
        try:
            self._run.log(dict(numbers), step=step)
        except self._wandb.Error as error:
            log.warning("Weights & Biases did not take round %d: %s", step, error)

    def close(self) -> None:
        """See `Mirror`."""
        self._run.finish()


def open_mirror(settings: Settings, identity: Mapping[str, str | int]) -> Mirror:
    """The mirror that the settings ask for."""
    if not settings.wandb_enabled:
        return Mirror()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    return WandbMirror(settings, identity)
