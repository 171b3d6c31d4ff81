"""Retention: bodies that no outbox holds any more are taken away.

An outbox that lets an activity go whose body is in another shard leaves a note beside itself. These
notes are carried to the activities' shards, many at a time, by any process that works on the store.
"""

import asyncio
import logging
import random
import secrets
from collections import defaultdict

from feedsvc.core import ids
from feedsvc.core.store import Arg, Store
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Notes that one call hands out, and that one call takes to where the bodies are: a fraction of a
#: millisecond of the store's.
NOTES_A_CALL = 200
#: Shards that are looked at together.
SHARDS_A_LOOK = 16
#: Milliseconds for which other processes leave a shard's notes to the one that carries them.
CARRYING_MS = 3_000
#: Seconds between looks while there are no notes, and after an error.
LOOK_SECONDS, TRY_AGAIN_SECONDS = 0.25, 1.0


class Retention:
    """The notes of what outboxes let go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._carried: dict[int, tuple[str, int]] = {}
        """By shard, the call that handed out notes that have been carried, and how many."""
        self._alone = asyncio.Lock()
        self._next_shard = random.randrange(store.limits.shards)

    async def run(self) -> None:
        """Carry notes for ever, without a pause while there are any."""
        quiet = 0
        looks = -(-self._store.limits.shards // SHARDS_A_LOOK)
        while True:
            pause = LOOK_SECONDS / looks
            try:
                quiet = 0 if await self._carry_some() else quiet + 1
            except StoreUnavailable:
                pause = TRY_AGAIN_SECONDS
            except Exception:
                log.exception("carrying notes of what outboxes let go failed; trying again")
                pause = TRY_AGAIN_SECONDS
            if quiet >= looks or pause == TRY_AGAIN_SECONDS:
                await asyncio.sleep(pause)

    async def carry(self) -> int:
        """Carry all notes that there are; return how many."""
        count = quiet = 0
        while quiet * SHARDS_A_LOOK < self._store.limits.shards:
            carried = await self._carry_some()
            count, quiet = count + carried, 0 if carried else quiet + 1
        return count

    async def _carry_some(self) -> int:
        async with self._alone:
            return await self._carry_next()

    async def _carry_next(self) -> int:
        """Carry some notes of the next few shards; return how many."""
        count = self._store.limits.shards
        shards = [(self._next_shard + n) % count for n in range(min(SHARDS_A_LOOK, count))]
        # Beginning elsewhere each time, so that the notes of no shard wait for those of another.
        self._next_shard = (self._next_shard + (len(shards) if count > len(shards) else 1)) % count
        name = secrets.token_hex(8)
        notes = await self._take(name, shards)
        await self._release([note for some in notes for note in some])
        for shard, some in zip(shards, notes, strict=True):
            if some:
                self._carried[shard] = name, len(some)
        return sum(map(len, notes))

    async def _take(self, name: str, shards: list[int]) -> list[list[bytes]]:
        before = {shard: self._carried.pop(shard, ("", 0)) for shard in shards}
        if not self._store.cluster:
            drop = [part for pair in before.values() for part in pair]
            found: list[list[bytes]] = await self._store.script(
                "let_go_take", shards, name, NOTES_A_CALL, CARRYING_MS, *drop
            )
            return found
        each = max(1, NOTES_A_CALL // len(shards))
        parts = await asyncio.gather(
            *(
                self._store.script("let_go_take", shard, name, each, CARRYING_MS, *carried)
                for shard, carried in before.items()
            )
        )
        return [notes for (notes,) in parts]

    async def _release(self, notes: list[bytes]) -> None:
        """Tell the activities' shards which outboxes let them go; as often as one likes."""
        by_shard: dict[int, list[Arg]] = defaultdict(list)
        last = self._store.limits.shards - 1
        for note in notes:
            activity_id, _, outbox = note.partition(b" ")
            by_shard[ids.shard_of(int(activity_id)) & last] += (activity_id, outbox)
        if not by_shard:
            return
        if not self._store.cluster:
            flat = [part for pairs in by_shard.values() for part in (len(pairs) // 2, *pairs)]
            await self._store.script("release", list(by_shard), *flat)
            return
        await asyncio.gather(
            *(
                self._store.script("release", shard, len(pairs) // 2, *pairs)
                for shard, pairs in by_shard.items()
            )
        )
