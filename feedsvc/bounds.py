"""The bound on every message that the service sends, and what follows from it.

gRPC's clients refuse messages above 4 MiB unless they are told otherwise. What would be longer is
cut into several messages or pages, each with a token from which the rest follows.
"""

from collections.abc import Iterable
from typing import Final

#: Bytes that a message of any RPC has at the most. The contract says so: see ``feed.proto``.
MESSAGE_BYTES: Final = 3_670_016
#: Bytes of events after which a stream begins another message. An event has up to about 42 KB.
EVENT_BYTES: Final = 1_048_576
#: Bytes of bodies that a page of activities holds. Each of its items, 100 at the most, may need
#: up to 9 KB more: `via` repeats names of `to`, 256 bytes each, 32 and the actor's at the most.
PAGE_BYTES: Final = 2_621_440
#: Bytes of activities that one batch of publishes may have. The answer repeats them, and adds up
#: to 1.2 KB for each of its entries, 500 at the most.
BATCH_BYTES: Final = 3_000_000
#: Violations that the error of one entry of a batch of publishes names; there may be more.
VIOLATIONS: Final = 8


def fitting(sizes: Iterable[int], most: int = PAGE_BYTES) -> int:
    """How many of the first items fit into so many bytes; one at least."""
    count = total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > most:
            return max(1, count)
    return count + 1
