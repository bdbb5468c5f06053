"""`perturb web` as a process: it says where it serves, and ends when it is told to."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.auditing.honest import live
from tests.support.auditing.published import publish_honest


def test_the_command_serves_and_ends(tmp_path: Path) -> None:
    bundle = publish_honest(live(tmp_path), tmp_path / "bundle")
    command = [sys.executable, "-m", "perturbnet.cli", "web", str(bundle), "--port", "0"]
    process: subprocess.Popen[Any] = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.match(r"http://127\.0\.0\.1:(\d+)", line)
        assert match, process.stderr.read() if process.stderr else ""
        connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=30)
        for _ in range(50):
            try:
                connection.request("GET", "/")
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        response = connection.getresponse()
        assert (response.status, b"Standings over time" in response.read()) == (200, True)
        connection.close()
        started_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        assert time.monotonic() - started_s < 10
    finally:
        process.kill()
        process.communicate()
