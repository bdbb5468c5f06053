"""How a neuron's process ends: on a signal, within seconds, with everything that was acknowledged on disk.

SIGINT and SIGTERM set an event; the main coroutine sees it and closes ledger, server and chain. One that is
busy elsewhere (it still opens the model, say) is cancelled after `NOTICE_S`, and left behind after another
`CANCEL_S`. A pass of the network cannot be interrupted, and Python would wait for its thread; nothing that
matters lives in such a thread, so the process ends without waiting for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from perturbnet.config import Loaded, load_settings, require_live
from perturbnet.errors import PerturbError
from perturbnet.telemetry import setup_logging

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE_S = 3.0
CANCEL_S = 1.0


def run_until_signal(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run `main(stop)`; SIGINT and SIGTERM set `stop`. Ends the process: 0, or the error's exit code."""
    code = 0
    faulthandler.enable()  # a watchdog's SIGABRT, or a crash, then leaves every thread's stack on stderr
    try:
        asyncio.new_event_loop().run_until_complete(_with_signals(main))
    except PerturbError as error:
        log.error("%s", error.diagnostics())
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception:  # the outermost edge: say what happened, then end
        log.exception("ended by an error that has no name yet")
        code = 1
    with contextlib.suppress(OSError, ValueError):  # whoever read our lines may be gone
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run_neuron(
    work: Callable[[Loaded, asyncio.Event], Coroutine[Any, Any, None]], loaded: Loaded | None
) -> NoReturn:
    """Check the settings (those given, or the environment's), then run `work(settings, stop)` until a signal.

    Wrong settings end it before anything has begun: a sentence, and the error's exit code.
    """
    try:
        found = loaded or load_settings(os.environ)
        require_live(found)
    except PerturbError as error:
        sys.stderr.write(f"{error.diagnostics()}\n")
        raise SystemExit(error.exit_code) from None
    setup_logging(found.settings.log_level, found.settings.log_format)
    run_until_signal(lambda stop: work(found, stop))


async def run_or_stop(work: Awaitable[None], stop: asyncio.Event) -> bool:
    """Await `work`, but cancel it when `stop` is set; says whether it finished. Raises what it raises."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    finished = False
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finished = task.done()
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_S)
    if task.done() and not task.cancelled():
        task.result()
    return finished


async def _with_signals(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _stop, number, stop)
    work = loop.create_task(main(stop))
    stopped = loop.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({work}, timeout=NOTICE_S)
    if not work.done():
        log.warning("still busy %g s after the signal: what is under way is dropped", NOTICE_S)
        work.cancel()
        await asyncio.wait({work}, timeout=CANCEL_S)
    if work.done() and not work.cancelled():
        work.result()


def _stop(number: signal.Signals, stop: asyncio.Event) -> None:
    log.info("%s: stopping", signal.Signals(number).name)
    stop.set()
