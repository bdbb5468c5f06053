"""How a process ends: real signals to real processes, within five seconds, and the exit codes of errors."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perturbnet.runtime.process import run_or_stop

ROOT = Path(__file__).parents[3]
START = """
import asyncio, logging, sys, threading, time
from perturbnet import errors
from perturbnet.runtime.process import run_or_stop, run_until_signal
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
def ready():
    print("ready", flush=True)
"""
# Big integers hold the interpreter's lock for long, like a pass of the network that cannot be interrupted.
BUSY = """
def compute():
    number = 7
    while True:
        number = pow(7, 20000, 10**6000) | 1
async def main(stop):
    try:
        ready()
        await run_or_stop(asyncio.to_thread(compute), stop)
    finally:
        print("closed", flush=True)
run_until_signal(main)
"""
DEAF = """
async def main(stop):
    try:
        ready()
        await asyncio.sleep(60)
    finally:
        print("closed", flush=True)
run_until_signal(main)
"""
STUBBORN = """
async def main(stop):
    ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("ignored", flush=True)
run_until_signal(main)
"""


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START + program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(program: str, number: signal.Signals) -> tuple[int, str, str, float]:
    """Exit code, output, errors, and seconds from the signal to the end."""
    with start(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started_s = time.monotonic()
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
        return process.returncode, output, errors, time.monotonic() - started_s


def run(program: str) -> tuple[int, str]:
    with start(program) as process:
        _, errors = process.communicate(timeout=20)
        return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_while_a_thread_computes(number: signal.Signals) -> None:
    code, output, errors, seconds = end(BUSY, number)
    assert (code, output) == (0, "closed\n")
    assert f"{number.name}: stopping" in errors
    assert seconds < 5


def test_one_that_does_not_look_is_cancelled_and_closes() -> None:
    code, output, errors, seconds = end(DEAF, signal.SIGTERM)
    assert (code, output) == (0, "closed\n")
    assert "what is under way is dropped" in errors
    assert seconds < 5


def test_one_that_ignores_even_that_is_left_behind() -> None:
    code, output, _, seconds = end(STUBBORN, signal.SIGTERM)
    assert (code, output) == (0, "ignored\n")
    assert seconds < 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ('errors.ChainError("no chain", hint="look there")', 1),
        ('errors.ConfigError("NETUID", "x", "a number")', 2),
        ('errors.LedgerCorrupt("broken", hint="look there")', 3),
    ],
)
def test_our_errors_end_it_with_their_code_and_a_sentence(error: str, code: int) -> None:
    found, errors = run(f"async def main(stop):\n    raise {error}\nrun_until_signal(main)")
    assert found == code
    assert "Traceback" not in errors
    assert ("look there" in errors) == (code != 2)


def test_an_error_without_a_name_ends_it_with_a_traceback() -> None:
    code, errors = run("async def main(stop):\n    raise ZeroDivisionError('oh')\nrun_until_signal(main)")
    assert code == 1
    assert "Traceback" in errors
    assert "ZeroDivisionError: oh" in errors


def test_one_that_is_done_ends_at_once_with_0() -> None:
    code, errors = run("async def main(stop):\n    pass\nrun_until_signal(main)")
    assert (code, errors) == (0, "")


def test_an_error_on_the_way_out_is_not_lost() -> None:
    program = """
async def work():
    try:
        await asyncio.sleep(60)
    finally:
        raise errors.LedgerError("the disk is full")
async def main(stop):
    ready()
    await run_or_stop(work(), stop)
run_until_signal(main)
"""
    code, _, errors, _ = end(program, signal.SIGTERM)
    assert code == 3
    assert "the disk is full" in errors


def test_a_reader_that_is_gone_does_not_change_the_exit_code() -> None:
    program = "async def main(stop):\n    print('x' * 100000)\nrun_until_signal(main)"
    with start("import os\nos.close(1)\nos.close(2)\n" + program) as process:
        process.communicate(timeout=20)
        assert process.returncode == 1  # print failed: said to nobody, but said


# run_or_stop, in this process.


def test_work_that_ends_says_so() -> None:
    async def main() -> bool:
        return await run_or_stop(asyncio.sleep(0), asyncio.Event())

    assert asyncio.run(main())


def test_work_that_is_stopped_says_so() -> None:
    async def main() -> tuple[bool, bool]:
        stop, cancelled = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        asyncio.get_running_loop().call_soon(stop.set)
        return await run_or_stop(work(), stop), cancelled.is_set()

    assert asyncio.run(main()) == (False, True)


def test_an_error_of_the_work_passes_through() -> None:
    async def work() -> None:
        raise KeyError("x")

    async def main() -> None:
        await run_or_stop(work(), asyncio.Event())

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_who_is_cancelled_takes_the_work_along() -> None:
    async def main() -> bool:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        outer = asyncio.create_task(run_or_stop(work(), asyncio.Event()))
        await asyncio.sleep(0.01)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        return ended.is_set()

    assert asyncio.run(main())
