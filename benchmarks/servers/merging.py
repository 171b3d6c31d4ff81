"""The alternative to stored feeds: merging the outboxes at each read, as many services do.

As a program, ``python -m benchmarks.servers.merging URL``, the module serves GetFeed that way. URL
is that of a store. The program starts and ends like `measured`.
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

from benchmarks.servers.measured import parent_gone
from feedsvc.core import ids


class Merging:
    """Outboxes as sorted sets of ids by time, bodies as strings, and followees as a set."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    async def follow(self, follower: str, followees: list[str]) -> None:
        await self._redis.sadd(f"following:{follower}", *followees)

    async def publish(self, activities: list[Activity]) -> None:
        """Store activities under the ids that they have."""
        pipeline = self._redis.pipeline(transaction=False)
        for activity in activities:
            ms = ids.ms_of(int(activity.id))
            pipeline.zadd(f"outbox:{activity.actor}", {activity.id: ms})
            pipeline.set(f"activity:{activity.id}", activity.SerializeToString())
        await pipeline.execute()

    async def page(self, user: str, size: int) -> list[Activity]:
        """Return the newest page of a feed: read all outboxes in one pipeline, and merge them."""
        followees = await self._redis.smembers(f"following:{user}")
        pipeline = self._redis.pipeline(transaction=False)
        for name in followees:
            pipeline.zrevrange(b"outbox:" + name, 0, size - 1)
        outboxes: list[list[bytes]] = await pipeline.execute()
        newest = list(islice(heapq.merge(*outboxes, reverse=True), size))
        bodies = await self._redis.mget([b"activity:" + activity_id for activity_id in newest])
        return [Activity.FromString(body) for body in bodies]


class MergingFeeds(FeedServiceServicer):
    """The merge behind the interface of the service."""

    def __init__(self, merging: Merging) -> None:
        self._merging = merging

    async def GetFeed(self, request: GetFeedRequest, context: Any) -> GetFeedResponse:  # noqa: ARG002
        items = [
            FeedItem(
                item_id=activity.id,
                sort_key=int(activity.id).to_bytes(8),
                activity=ViewedActivity(activity=activity),
                via=[activity.actor],
            )
            for activity in await self._merging.page(request.user, request.page_size)
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
