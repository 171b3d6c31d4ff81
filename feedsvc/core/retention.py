"""Retention: deletes bodies that no outbox holds any more.

An outbox that trims an activity whose body is in another shard leaves a trim note in its own shard.
Any process that works on the store carries these notes, many at a time, to the activities' shards.
"""

import asyncio
import logging
import math
import random
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence

from feedsvc.core import ids
from feedsvc.core.log_limits import log_failure
from feedsvc.core.store import Arg, Store
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Most notes that one call hands out, and that one call carries to the bodies: each of these calls
#: takes the store a fraction of a millisecond.
NOTES_A_CALL = 200
#: Shards that are looked at together.
SHARDS_A_LOOK = 16
#: Milliseconds for which other processes leave a shard's notes to the process that carries them.
CARRYING_MS = 3_000
#: Seconds between looks while there are no notes, and after an error.
LOOK_SECONDS, TRY_AGAIN_SECONDS = 0.25, 1.0


class Retention:
    """The carrier of the trim notes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._carried: dict[int, tuple[str, int]] = {}
        """By shard, the call that handed out notes which have been carried, and their number."""
        self._alone = asyncio.Lock()
        self._next_shard = random.randrange(store.limits.shards)

    async def run(self) -> None:
        """Carry trim notes until cancelled, without a pause while a shard has any."""
        quiet = 0
        looks = math.ceil(self._store.limits.shards / SHARDS_A_LOOK)  # that cover all shards
        while True:
            pause = LOOK_SECONDS / looks
            try:
                quiet = 0 if await self._carry_some() else quiet + 1
            except StoreUnavailable:
                pause = TRY_AGAIN_SECONDS
            except Exception as error:  # noqa: BLE001 (the next look may succeed)
                log_failure(log, "carrying trim notes failed; trying again", error)
                pause = TRY_AGAIN_SECONDS
            if quiet >= looks or pause == TRY_AGAIN_SECONDS:
                await asyncio.sleep(pause)

    async def carry(self) -> int:
        """Carry all notes; return their number."""
        count = quiet = 0
        while quiet * SHARDS_A_LOOK < self._store.limits.shards:
            carried = await self._carry_some()
            count, quiet = count + carried, 0 if carried else quiet + 1
        return count

    async def _carry_some(self) -> int:
        async with self._alone:
            return await self._carry_next()

    async def _carry_next(self) -> int:
        """Carry notes of the next few shards, up to a bound; return the number of notes."""
        count = self._store.limits.shards
        look_count = min(SHARDS_A_LOOK, count)
        shards = [(self._next_shard + offset) % count for offset in range(look_count)]
        # Each look begins at another shard, so that no shard's notes wait for those of another.
        self._next_shard = (self._next_shard + (look_count if count > look_count else 1)) % count
        call_name = secrets.token_hex(8)
        notes_by_shard = await self._take(call_name, shards)
        await self._release(note for notes in notes_by_shard for note in notes)
        for shard, notes in zip(shards, notes_by_shard, strict=True):
            if notes:
                self._carried[shard] = call_name, len(notes)
        return sum(map(len, notes_by_shard))

    async def _take(self, call_name: str, shards: Sequence[int]) -> list[list[bytes]]:
        """Take notes of shards, and drop the notes that this process has carried."""
        carried = {shard: self._carried.pop(shard, ("", 0)) for shard in shards}
        if not self._store.cluster:
            dropped = [part for call_and_count in carried.values() for part in call_and_count]
            notes_by_shard: list[list[bytes]] = await self._store.script(
                "trim_notes_take", shards, call_name, NOTES_A_CALL, CARRYING_MS, *dropped
            )
            return notes_by_shard
        limit = max(1, NOTES_A_CALL // len(shards))
        answers = await asyncio.gather(
            *(
                self._store.script(
                    "trim_notes_take", shard, call_name, limit, CARRYING_MS, *dropped
                )
                for shard, dropped in carried.items()
            )
        )
        return [notes for (notes,) in answers]

    async def _release(self, notes: Iterable[bytes]) -> None:
        """Take outboxes from the holders of the activities; repeating this changes nothing."""
        by_shard: dict[int, list[Arg]] = defaultdict(list)
        last = self._store.limits.shards - 1
        for note in notes:
            activity_id, _, outbox = note.partition(b" ")
            by_shard[ids.shard_of(int(activity_id)) & last] += (activity_id, outbox)
        if not by_shard:
            return
        if not self._store.cluster:
            arguments = [part for pairs in by_shard.values() for part in (len(pairs) // 2, *pairs)]
            await self._store.script("bodies_release", list(by_shard), *arguments)
            return
        await asyncio.gather(
            *(
                self._store.script("bodies_release", shard, len(pairs) // 2, *pairs)
                for shard, pairs in by_shard.items()
            )
        )
