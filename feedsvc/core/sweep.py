"""Sweeping: deletes the feeds of earlier incarnations of the store, which nobody reads."""

import asyncio
import re

from feedsvc.core.store import Store

#: Keys that one call looks at, which takes the store a fraction of a millisecond.
KEYS_A_CALL = 500
#: Seconds between calls.
PAUSE_SECONDS = 0.005

_FEED = re.compile(rb"(\{\d+\})f(\d*):")


async def sweep(store: Store) -> int:
    """Look at every key once; return the number of feeds that this deleted."""
    current = dict(zip((tag.encode() for tag in store.tags), store.incarnations, strict=True))
    cursor, swept = b"0", 0
    while True:
        cursor, names = await store.call("SCAN", cursor, "COUNT", KEYS_A_CALL, "TYPE", "list")
        old_feeds = [
            name
            for name in names
            if (feed := _FEED.match(name)) and current.get(feed[1]) != feed[2].decode()
        ]
        for name in old_feeds:
            await store.call("UNLINK", name)
        swept += len(old_feeds)
        if cursor == b"0":
            return swept
        await asyncio.sleep(PAUSE_SECONDS)
