"""Log lines: for a person at a terminal as text, for a journal or a collector as one JSON object each.

Rules
- One record is one line, whatever a peer put into it: control characters are escaped, in both forms.
- Times are UTC. Libraries speak from WARNING on.
- A JSON line has `time`, `level`, `logger`, `message`, and `error` (a traceback) where there is one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
LOG_FORMATS = ("auto", "text", "json")
QUIET = ("asyncio", "bittensor", "datasets", "filelock", "fsspec", "PIL", "urllib3", "uvicorn", "websockets")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class TextLines(logging.Formatter):
    """`2026-01-31T23:59:59Z INFO    validator: Round 7 closed`; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__(LINE, datefmt="%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See `logging.Formatter`."""
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", super().formatMessage(record))


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def setup_logging(level: str, form: str = "auto") -> None:
    """Write lines to standard error. `form` is one of LOG_FORMATS; auto is text at a terminal, else JSON."""
    handler = logging.StreamHandler(sys.stderr)
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextLines() if as_text else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
