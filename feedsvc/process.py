"""The processes of ``feedsvc serve`` and ``feedsvc worker``: each runs until a signal stops it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from feedsvc.config import Config
from feedsvc.core import background
from feedsvc.core.store_facts import FactsReader, KeySample, StoreFacts
from feedsvc.engine_lifecycle import start_engine
from feedsvc.errors import StoreUnfit
from feedsvc.server import Server

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a starting process saw of its store; None if the store did not answer in time."""

    facts: StoreFacts | None
    keys: KeySample | None

    @classmethod
    async def of(cls, reader: FactsReader) -> Self:
        """Return what the reader's store says of itself now."""
        return cls(await reader.facts(), await reader.sample_keys())


async def run_server(
    config: Config,
    on_ready: Callable[[int, Survey], None] | None = None,
    wait_seconds: float = 0.0,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit.

    ``on_ready`` gets the port once the server serves. At the start, wait up to ``wait_seconds`` for
    a store that is not ready yet. Raise StoreUnfit, EmbeddedStoreError or CannotListen if the
    server cannot start, and EmbeddedStoreError if the embedded store ends.
    """
    stopping = _stopping_event()
    async with AsyncExitStack() as stack:
        server = await _start(stack.enter_async_context(Server(config, wait_seconds)), stopping)
        if server is None:
            return
        if on_ready is not None:
            on_ready(server.port, await Survey.of(server.status.facts))
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


async def run_workers(
    config: Config,
    on_ready: Callable[[Survey], None] | None = None,
    wait_seconds: float = 0.0,
) -> None:
    """Work on deliveries until SIGTERM or SIGINT.

    ``on_ready`` is called once the workers work. At the start, wait up to ``wait_seconds`` for a
    store that is not ready yet. Raise StoreUnfit if the workers cannot start.
    """
    if config.redis_url is None:
        raise StoreUnfit("workers need the store that servers use: name it by --redis-url")
    stopping = _stopping_event()
    async with AsyncExitStack() as stack:
        started = await _start(
            start_engine(config.redis_url, config, stack, wait_seconds), stopping
        )
        if started is None:
            return
        engine, _ = started
        if on_ready is not None:
            reader = FactsReader(engine.store.sibling())
            on_ready(await Survey.of(reader))
            await reader.close()
        await stopping.wait()
        log.info("stopping")


async def _start(starting: Coroutine[Any, Any, T], stopping: asyncio.Event) -> T | None:
    """Return the result of a start; cancel the start and return None once ``stopping`` is set.

    A start may take long: a store loads its data, or is not there yet.
    """
    start, stop = asyncio.create_task(starting), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(stop)
    if start.done():
        return start.result()
    await background.end(start)
    log.info("stopped while starting")
    return None


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
