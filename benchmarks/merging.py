"""The alternative to stored feeds: merging the outboxes at each read, as it is usually done.

As a program it serves GetFeed that way: ``python -m benchmarks.merging URL``; see ``server.py``.
"""

import heapq
import sys
from itertools import islice
from typing import Any

import grpc.aio
import uvloop
from activityfeed.v1.activity_pb2 import Activity, ViewedActivity
from activityfeed.v1.feed_pb2 import FeedItem, FeedPage
from activityfeed.v1.feed_service_pb2 import GetFeedRequest, GetFeedResponse
from activityfeed.v1.feed_service_pb2_grpc import (
    FeedServiceServicer,
    add_FeedServiceServicer_to_server,
)
from redis.asyncio import Redis

from benchmarks.server import parent_gone
from feedsvc.core import ids


class Merging:
    """Outboxes as sorted sets of ids by time, bodies as strings, followees as a set."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    async def follow(self, follower: str, followees: list[str]) -> None:
        await self._redis.sadd(f"following:{follower}", *followees)

    async def publish(self, activities: list[Activity]) -> None:
        """Stores activities under the ids that they have."""
        pipeline = self._redis.pipeline(transaction=False)
        for one in activities:
            pipeline.zadd(f"outbox:{one.actor}", {one.id: ids.ms_of(int(one.id))})
            pipeline.set(f"activity:{one.id}", one.SerializeToString())
        await pipeline.execute()

    async def page(self, user: str, size: int) -> list[Activity]:
        """The newest of a feed: all outboxes in one pipeline, a merge, and the bodies."""
        followees = await self._redis.smembers(f"following:{user}")
        pipeline = self._redis.pipeline(transaction=False)
        for name in followees:
            pipeline.zrevrange(b"outbox:" + name, 0, size - 1)
        outboxes: list[list[bytes]] = await pipeline.execute()
        newest = list(islice(heapq.merge(*outboxes, reverse=True), size))
        bodies = await self._redis.mget([b"activity:" + one for one in newest])
        return [Activity.FromString(body) for body in bodies]


class MergingFeeds(FeedServiceServicer):
    """The same behind the same interface."""

    def __init__(self, merging: Merging) -> None:
        self._merging = merging

    async def GetFeed(self, request: GetFeedRequest, context: Any) -> GetFeedResponse:  # noqa: ARG002
        items = [
            FeedItem(
                item_id=one.id,
                sort_key=int(one.id).to_bytes(8),
                activity=ViewedActivity(activity=one),
                via=[one.actor],
            )
            for one in await self._merging.page(request.user, request.page_size)
        ]
        return GetFeedResponse(page=FeedPage(items=items))


async def _serve(url: str) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        server = grpc.aio.server()
        add_FeedServiceServicer_to_server(MergingFeeds(Merging(redis)), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await parent_gone()
        await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
