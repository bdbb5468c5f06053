"""A real browser for tests: Debian's Chromium, headless, driven through a pair of pipes.

Rules
- Nothing but loopback: every other name resolves to nothing, and the browser's own errands are switched off.
- What a page complains of is kept: console, log (refused by a policy, failed to load), failed requests.

Source: chromedevtools.github.io/devtools-protocol; `--remote-debugging-pipe`: messages end with a NUL byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

PROGRAM = "chromium"
DEADLINE_S = 60.0
REBOUND = "rebound.test"  # a stranger's name that was made to lead to loopback
FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--mute-audio",
    "--hide-scrollbars",
    "--proxy-server=direct://",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
    "--window-size=1280,1000",
)


class Chromium:
    """One browser with one page. `complaints` grows while pages are looked at."""

    def __init__(self, folder: Path) -> None:
        """Start it, with its profile in `folder`."""
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = [PROGRAM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        # The protocol's ends are 3 and 4 in the browser, whatever they are here.
        script = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        with (folder / "chromium.log").open("wb") as said:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "chromium", *command],
                pass_fds=(to_read, to_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, address: str) -> int:
        """Load a page whole; returns its HTTP status, 0 where none came."""
        self._events.clear()
        frame = self.call("Page.navigate", url=address)["frameId"]
        self._await(lambda event: event["method"] == "Page.loadEventFired")
        self.settle()
        statuses = [
            event["params"]["response"]["status"]
            for event in self._events
            if event["method"] == "Network.responseReceived"
            and event["params"]["type"] == "Document"
            and event["params"]["frameId"] == frame
        ]
        return int(statuses[-1]) if statuses else 0

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, what it becomes."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def screenshot(self, path: Path, *, width: int = 1280, height: int = 0) -> None:
        """The whole page as PNG, or its first `height` pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height or 1000,
            deviceScaleFactor=1,
            mobile=False,
        )
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=not height)
        path.write_bytes(base64.b64decode(shot["data"]))

    def settle(self, quiet_s: float = 0.3) -> None:
        """Take in events until none came for a while."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until and self._receive(quiet_s):
            pass

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._await(lambda event: event.get("id") == self._number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def close(self) -> None:
        """End the browser and everything it started."""
        for end in (self._write, self._read):
            os.close(end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await(self, wanted: Any) -> dict[str, Any]:
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            event = self._receive(1.0)
            if event and wanted(event | {"method": event.get("method", "")}):
                return event
        raise AssertionError("the browser did not answer in time")

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], timeout_s)[0]:
                return None
            data = os.read(self._read, 1 << 20)
            if not data:
                raise AssertionError("the browser ended")
            self._buffer += data
        text, self._buffer = self._buffer.split(b"\0", 1)
        event: dict[str, Any] = json.loads(text)
        if "method" in event:
            self._events.append(event)
            self._hear(event["method"], event["params"])
        return event

    def _hear(self, method: str, said: dict[str, Any]) -> None:
        match method:
            case "Log.entryAdded":
                entry = said["entry"]
                self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}".strip())
            case "Runtime.consoleAPICalled":
                self.complaints.append(f"console.{said['type']}: {said['args']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {said['exceptionDetails']['text']}")
            case "Network.loadingFailed" if not said.get("canceled"):
                self.complaints.append(
                    f"not loaded: {said['errorText']} {said.get('blockedReason', '')}".strip()
                )
