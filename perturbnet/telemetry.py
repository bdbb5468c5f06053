"""What a neuron says while it runs: log lines for people and the journal, and a mirror to Weights & Biases.

The mirror is a mirror: it works in a thread of its own, so a slow network never delays a round; when it
fails, the validator says so once, counts, and goes on.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from perturbnet.config import Settings

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
QUIET = ("asyncio", "bittensor", "datasets", "filelock", "fsspec", "PIL", "urllib3", "uvicorn", "websockets")
CLOSING_S = 2.0

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
        """Mirror the numbers of one round; never raises, never waits."""

    def close(self) -> None:
        """Finish, within `CLOSING_S`."""


class WandbMirror(Mirror):
    """Weights & Biases, in a thread of its own. `failures` counts what it did not take."""

    def __init__(self, settings: Settings, identity: Mapping[str, str | int]) -> None:
        """Begin a run with the named settings; `identity` says which validator it is."""
        self.failures = 0
        self._run: Any = None
        self._worker = ThreadPoolExecutor(1, "wandb")
        self._later(lambda: self._begin(settings, dict(identity)))

    def send(self, numbers: Mapping[str, float], *, step: int) -> None:
        """See `Mirror`."""
        copied = dict(numbers)
        self._later(lambda: self._run.log(copied, step=step))

    def close(self) -> None:
        """See `Mirror`."""
        done = self._worker.submit(self._attempt, self._finish)
        wait([done], timeout=CLOSING_S)
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _later(self, work: Callable[[], None]) -> None:
        self._worker.submit(self._attempt, work)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the edge: whatever its library raises must not end a validator
            self.failures += 1
            if self.failures == 1:
                log.warning("Weights & Biases fails, the validator goes on without: %s", error)

    def _begin(self, settings: Settings, identity: Mapping[str, str | int]) -> None:
        import wandb  # two seconds to import, and off by default

        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=settings.wandb_project,
            entity=settings.wandb_entity,
            name=settings.wandb_run_name,
            mode=settings.wandb_mode,  # type: ignore[arg-type]  # one of three words, checked by the registry
            dir=str(settings.state_dir),
            config=dict(identity),
            settings=wandb.Settings(console="auto" if settings.wandb_log_console else "off"),
        )

    def _finish(self) -> None:
        if self._run is not None:
            self._run.finish()


def open_mirror(settings: Settings, identity: Mapping[str, str | int]) -> Mirror:
    """The mirror that the settings ask for."""
    return WandbMirror(settings, identity) if settings.wandb_enabled else Mirror()
