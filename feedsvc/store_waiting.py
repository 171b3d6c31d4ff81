"""Waiting at the start of a process for a store that is not ready yet."""

import asyncio
import logging
import time

from feedsvc.core.store import Store
from feedsvc.errors import StoreNotReady

log = logging.getLogger(__name__)

#: Seconds between two attempts to open a store.
ATTEMPT_SECONDS = 0.5


async def open_store(store: Store, wait_seconds: float) -> None:
    """Open a store, and wait up to ``wait_seconds`` until that is possible.

    The log names the cause of the wait once, and each other cause once. Raise StoreUnfit at once if
    an operator has to act, and StoreNotReady at the end of the wait. An attempt may exceed the time
    by a few seconds.
    """
    began = time.monotonic()
    cause = ""
    while True:
        try:
            await store.open()
        except StoreNotReady as error:
            remaining = began + wait_seconds - time.monotonic()
            if wait_seconds and remaining <= 0:
                raise StoreNotReady(
                    f"{error} (waited {time.monotonic() - began:.0f} s for it)"
                ) from error
            if remaining <= 0:
                raise
            if cause != str(error):
                cause = str(error)
                log.info("waiting up to %.0f s: %s", remaining, cause)
        else:
            return
        await asyncio.sleep(min(ATTEMPT_SECONDS, remaining))
