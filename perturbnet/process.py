"""How a neuron's process ends: on a signal, within seconds, with everything that was acknowledged on disk.

A pass of the network cannot be interrupted, and Python would wait for its thread. Nothing that matters lives in such a thread, so
after the coroutine has closed ledger, server and chain the process ends without waiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from perturbnet.errors import PerturbError

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_until_signal(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run `main(stop)`; SIGINT and SIGTERM set `stop`. Ends the process: 0, or the error's exit code."""
    code = 0
    try:
        asyncio.new_event_loop().run_until_complete(_with_signals(main))
    except PerturbError as error:
        log.error("%s", error.diagnostics())  # noqa: TRY400 - a sentence, not a traceback
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception:  # the outermost edge: say what happened, then end
        log.exception("ended by an error that has no name yet")
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def run_or_stop(work: Awaitable[None], stop: asyncio.Event) -> bool:
    """Await `work`, but cancel it when `stop` is set; says whether it finished."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
        return True
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    return False


async def _with_signals(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _stop, number, stop)
    await main(stop)


def _stop(number: signal.Signals, stop: asyncio.Event) -> None:
    log.info("%s: stopping", signal.Signals(number).name)
    stop.set()
