"""The processes of ``feedsvc serve`` and ``feedsvc worker``: each runs until a signal stops it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

from feedsvc.config import Config
from feedsvc.engine_lifecycle import start_engine
from feedsvc.errors import StoreUnfit
from feedsvc.server import Server

log = logging.getLogger(__name__)


async def run_server(config: Config, on_ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit.

    ``on_ready`` gets the port once the server serves. Raise StoreUnfit, EmbeddedStoreError or
    PortBusy if the server cannot start, and EmbeddedStoreError if the embedded store ends.
    """
    stopping = _stopping_event()
    async with AsyncExitStack() as stack:
        server = Server(config)
        if not await _start(stack.enter_async_context(server), stopping):
            return
        if on_ready is not None:
            on_ready(server.port)
        ends = {asyncio.create_task(stopping.wait()), asyncio.create_task(server.watch())}
        done, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            await _cancel(task)
        log.info("stopping")
        for task in done:
            task.result()
        server.exits = True
    logging.shutdown()
    os._exit(0)  # while gRPC still answers, see `Server.exits`


async def run_workers(config: Config, on_ready: Callable[[], None] | None = None) -> None:
    """Work on deliveries until SIGTERM or SIGINT.

    ``on_ready`` is called once the workers work. Raise StoreUnfit if they cannot start.
    """
    if config.redis_url is None:
        raise StoreUnfit("workers need the store that servers use: name it by --redis-url")
    stopping = _stopping_event()
    async with AsyncExitStack() as stack:
        if not await _start(start_engine(config.redis_url, config, stack), stopping):
            return
        if on_ready is not None:
            on_ready()
        await stopping.wait()
        log.info("stopping")


async def _start(starting: Coroutine[Any, Any, object], stopping: asyncio.Event) -> bool:
    """Start something, and return True; cancel the start and return False once ``stopping`` is set.

    A start may take long: a store loads its data.
    """
    start, stop = asyncio.create_task(starting), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(stop)
        if not start.done():
            await _cancel(start)
    if start.cancelled():
        log.info("stopped while starting")
        return False
    start.result()
    return True


def _stopping_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
