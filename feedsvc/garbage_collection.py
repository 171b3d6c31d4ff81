"""Garbage collection in a server with many open streams.

A full collection looks at every object of the process. With 5,000 streams that takes a quarter of a
second, in which the server answers no call. So the collector passes over open streams, and looks at
young objects rarely.
"""

import asyncio
import gc

from feedsvc.core.live import Live

#: Thresholds of the collector's three generations. With Python's default thresholds, (700, 10, 10),
#: the collector stopped a server that wakes 10,000 streams for tens of milliseconds each second.
THRESHOLDS = 10_000, 20, 50
#: Seconds between looks at the number of streams.
LOOK_SECONDS = 1.0
#: Streams are frozen again when their number is above the frozen number times the factor, plus the
#: step.
GROWTH_FACTOR, GROWTH_STEP = 1.2, 200


async def freeze_streams(live: Live) -> None:
    """Keep the collector away from open streams, until the task is cancelled.

    As streams come, freeze all objects: the collector passes over frozen objects. When half of the
    frozen streams have gone, let the collector look at all objects again.
    """
    frozen_streams, earlier_thresholds = 0, gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if live.streams > frozen_streams * GROWTH_FACTOR + GROWTH_STEP:
                gc.collect()
                gc.freeze()
                frozen_streams = live.streams
            elif live.streams < frozen_streams / 2:
                gc.unfreeze()
                frozen_streams = 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*earlier_thresholds)
