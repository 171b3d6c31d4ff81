"""The life cycle of the core in a process: start it on a store, and look after the store."""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from feedsvc.config import Config
from feedsvc.core import background
from feedsvc.core.engine import Engine
from feedsvc.core.health import Heartbeat
from feedsvc.core.log_limits import log_failure, reset_all
from feedsvc.core.store import Store
from feedsvc.core.sweep import sweep
from feedsvc.errors import StoreUnavailable
from feedsvc.store_waiting import open_store

log = logging.getLogger(__name__)

#: Seconds between looks for feeds of earlier incarnations.
SWEEP_SECONDS = 5.0


async def start_engine(
    url: str, config: Config, stack: AsyncExitStack, wait_seconds: float = 0.0
) -> tuple[Engine, Heartbeat]:
    """Start the core and its workers on a store, and the heartbeat of the store.

    ``stack`` stops the core, the workers and the heartbeat. Wait up to ``wait_seconds`` for a store
    that is not ready yet. Raise StoreUnfit if the core cannot use the store.
    """
    stack.callback(reset_all)  # at the very end
    store = Store.at(url, config.limits)
    stack.push_async_callback(store.close)
    await open_store(store, wait_seconds)
    aside = store.sibling()
    engine = Engine.on(store, aside, store.sibling())
    retention = background.supervised("the retention worker", engine.retention.run)
    stack.push_async_callback(background.end, retention)
    if config.workers:
        with suppress(StoreUnavailable):  # if so, the workers connect later
            await aside.call("TIME")
        engine.workers.start(config.workers)
        stack.push_async_callback(engine.workers.close)
    heartbeat = Heartbeat(store)
    stack.push_async_callback(
        background.end, background.supervised("the store's heartbeat", heartbeat.run)
    )
    return engine, heartbeat


async def sweep_earlier_incarnations(engine: Engine) -> None:
    """Remove the feeds of earlier incarnations of the store, until the task is cancelled."""
    swept_for = [""] * len(engine.store.tags)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            if swept_for != engine.store.incarnations:
                swept_for = list(engine.store.incarnations)
                log.info("removed %d feeds of earlier incarnations", await sweep(engine.store))
        except StoreUnavailable:
            swept_for = []
        except Exception as error:  # noqa: BLE001 (the next sweep may succeed)
            log_failure(log, "removing feeds of earlier incarnations failed; trying again", error)
