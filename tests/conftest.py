"""How every test runs: offline, in folders of its own, on one thread; and what was not run is said by name.

Rules
- Set before anything imports numpy, torch or a hub client: one thread per process, no hub, no telemetry, and
  every home, cache and state folder inside one temporary folder that goes away at the end. A test never sees
  the user's wallets.
- A connection beyond loopback fails the test that asks for it, unless that test is marked `network`.
- `needs("nix", ...)` names programs, `gpu` a device; with words behind it, `needs("unshare -r true")`, a
  program must succeed. Where one is missing the test is not run, and the summary counts and names it with the
  reason: nothing is skipped in silence. Under pytest-xdist the reports bring this to the process that prints.
- Unit tests run before all others: what is small fails first. Where processes of pytest-xdist share a run,
  the workflow's and the integration tests run first instead: what takes long is begun early, so that the run
  does not end with one process at work.
- Where Python is told to keep no bytecode, it goes into the temporary folder: every process that a test
  starts would else compile all that it imports.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hypothesis
import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_HOME = Path(tempfile.mkdtemp(prefix="perturb-tests-"))
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "*",
    "HOME": str(_HOME),
    "XDG_CONFIG_HOME": str(_HOME / "config"),
    "XDG_CACHE_HOME": str(_HOME / "cache"),
    "XDG_STATE_HOME": str(_HOME / "state"),
    "XDG_DATA_HOME": str(_HOME / "data"),
    "HF_HOME": str(_HOME / "huggingface"),
    "WANDB_DIR": str(_HOME / "wandb"),
}
# A setting of the user's own must not reach a test; neither must a proxy that would carry a request outside.
_FOREIGN = (
    "WALLET_NAME",
    "WALLET_HOTKEY",
    "WALLET_PATH",
    "NETUID",
    "NETWORK",
    "HF_TOKEN",
    "LOG_LEVEL",
    "FORCE_COLOR",
)
for _name in [name for name in os.environ if name.startswith("PERTURB_") or name.lower().endswith("_proxy")]:
    del os.environ[_name]
for _name in _FOREIGN:
    os.environ.pop(_name, None)
os.environ.update(_ENVIRONMENT)
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Inherited by processes of pytest-xdist, which therefore share one folder.
    os.environ["PYTHONPYCACHEPREFIX"] = str(_HOME / "bytecode")

# Two shared cores make any deadline a coin toss. On CI the examples are the same every time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

_NOT_RUN = "not run on this machine: "
_not_run: list[tuple[str, str]] = []
_network_allowed = False


class NetworkReached(AssertionError):
    """A test asked for an address beyond loopback without the `network` mark."""


def pytest_configure() -> None:
    """Guard every socket of this process."""
    socket.socket.connect = _guard(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _guard(socket.socket.connect_ex)  # type: ignore[method-assign]


def pytest_unconfigure() -> None:
    """Remove the temporary home."""
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put unit tests first, or last where processes share the run; otherwise the order stays."""
    order = ("workflow", "integration", "nix", "unit") if "PYTEST_XDIST_WORKER" in os.environ else ("unit",)

    def place(item: pytest.Item) -> int:
        folders = item.path.relative_to(item.config.rootpath).parts
        return next((number for number, name in enumerate(order) if name in folders), len(order))

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and remember it by name."""
    global _network_allowed  # noqa: PLW0603 - one process, one test at a time
    _network_allowed = item.get_closest_marker("network") is not None
    reason = _reason_not_to_run(item)
    if reason:
        pytest.skip(_NOT_RUN + reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed or logged may hold lone surrogates, which no process can send to another."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember by name what this machine could not run, wherever it would have run."""
    if report.skipped and isinstance(report.longrepr, tuple):
        _, found, reason = str(report.longrepr[2]).partition(_NOT_RUN)
        if found:
            _not_run.append((report.nodeid, reason))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Name what was not run, and why."""
    if _not_run:
        terminalreporter.section(f"not run on this machine: {len(_not_run)}")
        for name, reason in sorted(_not_run):
            terminalreporter.line(f"not run: {name} ({reason})")


def _reason_not_to_run(item: pytest.Item) -> str:
    missing = [
        program for mark in item.iter_markers("needs") for program in mark.args if not _can_run(program)
    ]
    if missing:
        return f"needs {', '.join(missing)}"
    return "needs a CUDA device" if item.get_closest_marker("gpu") and not _has_cuda() else ""


@functools.cache
def _can_run(command: str) -> bool:
    program, *words = command.split()
    if shutil.which(program) is None:
        return False
    return not words or subprocess.run([program, *words], capture_output=True, check=False).returncode == 0


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _guard(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if not (_network_allowed or self.family == socket.AF_UNIX or _is_loopback(address)):
            _refuse(address)
        return connect(self, address)

    return guarded


def _is_loopback(address: Any) -> bool:
    host = address[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return bool(host == "localhost")


def _refuse(address: Any) -> NoReturn:
    raise NetworkReached(f"a test reached for {address!r}; tests stay on loopback unless marked `network`")
