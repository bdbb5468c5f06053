"""A mirror of a validator's numbers, and of its console where that is wanted, to Weights & Biases.

Rules
- It works in a thread of its own, so a slow network never delays a round. At most `MAX_WAITING` pieces of
  work wait for it: what comes while it hangs is dropped and counted.
- When it fails, that is said once, counted, and the validator goes on.
- The console is forwarded by a handler of ours. The library's own way wraps stderr: then every line that the
  validator writes would pass through its code, in the validator's threads.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from perturbnet.config import Settings
from perturbnet.telemetry.logs import TextLines

CLOSING_S = 2.0
MAX_WAITING = 2000

log = logging.getLogger(__name__)


class Mirror:
    """Sends numbers somewhere; this one sends them nowhere. `failures` counts what was not taken."""

    failures = 0
    dropped = 0

    def send(self, numbers: Mapping[str, float], *, step: int) -> None:
        """Mirror the numbers of one round; never raises, never waits."""

    def close(self) -> None:
        """Finish, within `CLOSING_S`."""


class WandbMirror(Mirror):
    """Weights & Biases, in a thread of its own; `dropped` counts what came while too much waited."""

    def __init__(self, settings: Settings, identity: Mapping[str, str | int]) -> None:
        """Begin a run with the named settings; `identity` says which validator it is."""
        self.failures = self.dropped = 0
        self._run: Any = None
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._worker = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._worker.start()
        self._later(lambda: self._begin(settings, dict(identity)))
        self._console = _Console(self) if settings.wandb_log_console else None
        if self._console is not None:
            logging.getLogger().addHandler(self._console)

    def send(self, numbers: Mapping[str, float], *, step: int) -> None:
        """See `Mirror`."""
        copied = dict(numbers)
        self._later(lambda: self._run.log(copied, step=step))

    def write(self, line: str) -> None:
        """Mirror a line of the console, likewise."""
        self._later(lambda: self._run.write_logs(line))

    def close(self) -> None:
        """See `Mirror`."""
        if self._console is not None:
            logging.getLogger().removeHandler(self._console)
        self._later(self._finish)
        self._later(None)
        self._worker.join(CLOSING_S)

    @property
    def began(self) -> bool:
        """Whether the run was begun."""
        return self._run is not None

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return self._waiting.empty()

    def _later(self, work: Callable[[], None] | None) -> None:
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self.dropped += 1

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            self._attempt(work)

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
            settings=wandb.Settings(console="off"),
        )

    def _finish(self) -> None:
        if self._run is not None:
            self._run.finish()


class _Console(logging.Handler):
    """Copies log lines to the mirror; not those of its own threads, which would come back for ever."""

    def __init__(self, mirror: WandbMirror) -> None:
        super().__init__()
        self._mirror = mirror
        self.setFormatter(TextLines())

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if not record.name.startswith(("wandb", __name__)):
            self._mirror.write(self.format(record))


def open_mirror(settings: Settings, identity: Mapping[str, str | int]) -> Mirror:
    """The mirror that the settings ask for."""
    return WandbMirror(settings, identity) if settings.wandb_enabled else Mirror()
