"""Builds: a cold feed is materialised from the outboxes that it is merged from."""

import asyncio
import secrets

from feedsvc.core import keys
from feedsvc.core.background import CommittedWork, SharedBuilds
from feedsvc.core.edges import Edges
from feedsvc.core.outbox import Outboxes
from feedsvc.core.store import Arg, Store


class FeedBuilds:
    """Materialises feeds, each by at most one build of this process at a time."""

    def __init__(self, store: Store, edges: Edges, outboxes: Outboxes, work: CommittedWork) -> None:
        self._store = store
        self._edges = edges
        self._outboxes = outboxes
        self._work = work
        self._builds = SharedBuilds[int](work, store.limits.max_builds)

    async def build(self, user: str) -> None:
        """Materialise a cold feed, or wait for the build of this process that is under way.

        The feed may stay cold: see ``SharedBuilds.join``.
        """
        await self._builds.join(user, lambda: self._build(user, force=False))

    async def rebuild(self, user: str) -> int:
        """Materialise a feed anew; return the number of its ids, -1 while another build runs."""
        return await self._work.finish(self._build(user, force=True))

    async def _build(self, user: str, *, force: bool) -> int:
        shard, tag = self._store.shard_for(user), self._store.tag_for(user)
        nonce = secrets.token_hex(8)
        state, generation = await self._store.script("build_begin", shard, user, nonce, int(force))
        if state != b"cold":
            return -1
        followees, pulled = await asyncio.gather(
            self._edges.followees(user), self._store.call("SMEMBERS", keys.pulled(tag, user))
        )
        # Read the modes before the outboxes: the commit compares them with the modes of its time.
        modes = await self._store.call("HMGET", keys.celebrities(tag), *pulled) if pulled else []
        cap = self._store.limits.feed_cap
        merged = await self._outboxes.merge(
            [user, *followees], older=True, cursor=None, count=cap + 1
        )
        floor = max(merged.floor, merged.ids[cap] if len(merged.ids) > cap else 0)
        arguments: list[Arg] = [user, nonce, generation, floor, len(pulled)]
        for followee, mode in zip(pulled, modes, strict=True):
            arguments += (followee, mode or "")
        arguments += (
            activity_id for activity_id in reversed(merged.ids[:cap]) if activity_id > floor
        )
        return int(await self._store.script("build_commit", shard, *arguments))
