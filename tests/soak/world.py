"""The world that is soaked: a store, a server, and what goes on."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import GetFanoutStatusRequest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import FollowRequest, UnfollowRequest
from redis.asyncio import Redis

from feedsvc.embedded import EmbeddedStore
from tests.harness.processes import Process, feedsvc_command
from tests.soak.samples import Samples, Series, keys_by_kind, resident_mb

USERS = [f"user:{number}" for number in range(300)]
AUTHORS = [f"author:{number}" for number in range(100)]
TOPICS = [f"topic:{number}" for number in range(32)]
FOLLOWED = 20
SUBSCRIBERS, READERS = 40, 4
#: Deliveries that wait, at which no more is published.
WAITING = 200
#: Seconds between looks.
LOOK_SECONDS = 2.0
#: Everything that has an end has it soon.
SETTINGS = {
    "feed-cap": 20,
    "feed-slack": 5,
    "outbox-cap": 30,
    "feed-ttl": 8,
    "request-ttl": 8,
    "delivery-ttl": 5,
    "log-lease": 3,
    "log-cap": 50,
    "checkpoint-seconds": 1,
    "stream-seconds": 10,
    "inline-audience": 40,
}
Tell = Callable[[float, str], None]
"""Is told the seconds that have passed, and how it stands."""


async def soak(folder: Path, *, seconds: float, rate: float, tell: Tell) -> list[Series]:
    """Have all go on for some seconds; what was looked at meanwhile."""
    options = [f"--{name}={value}" for name, value in SETTINGS.items()]
    async with (
        EmbeddedStore(folder / "store", durable=False) as store,
        Redis.from_url(store.url, protocol=2) as redis,
    ):
        command = feedsvc_command("serve", "--port=0", f"--redis-url={store.url}", *options)
        server = Process("server", command, folder / "server.log", {})
        server.launch()
        try:
            said = await server.wait_for_line("serving on")
            target = f"127.0.0.1:{said.rpartition(':')[2].strip()}"
            async with FeedClient.connect(target) as client:
                world = World(client, rate)
                await world.populate()
                return await _watched(world, server, redis, seconds, tell)
        finally:
            server.kill()


async def _watched(
    world: "World", server: Process, redis: Any, seconds: float, tell: Tell
) -> list[Series]:
    samples, ends = Samples(), time.monotonic() + seconds
    works = [asyncio.create_task(work) for work in world.works()]
    try:
        while time.monotonic() < ends:
            await asyncio.sleep(LOOK_SECONDS)
            for work in works:
                if work.done():
                    work.result()
            server.check()
            used = (await redis.info("memory"))["used_memory"] / 1e6
            memory = {"server": resident_mb(server.pid), "store": used}
            samples.add(memory, "MB")
            samples.add(await keys_by_kind(redis))
            samples.end()
            tell(
                seconds - max(0.0, ends - time.monotonic()),
                f"{world.published:,} published, {world.streams:,} streams, "
                f"server {memory['server']:.0f} MB, store {used:.1f} MB",
            )
    finally:
        for work in works:
            work.cancel()
        await asyncio.wait(works)
    return samples.series


class World:
    """Who publishes, reads, follows and subscribes."""

    def __init__(self, client: FeedClient, rate: float) -> None:
        self._client = client
        self._rate = rate
        self._chance = random.Random(1)
        self._numbers = itertools.count()
        self._room = asyncio.Event()
        """Set while few deliveries are waiting: a queue that fills up to its bound is no leak."""
        self.published = 0
        self.streams = 0

    async def populate(self) -> None:
        """Make everybody follow some."""
        for user in USERS:
            for followee in self._chance.sample(AUTHORS + TOPICS, FOLLOWED):
                await self._client.follows.Follow(FollowRequest(follower=user, followee=followee))

    def works(self) -> list[Awaitable[None]]:
        """All that goes on, each without an end."""
        return [  # type: ignore[return-value]
            self._publish(),
            self._look_at_the_queue(),
            self._churn(),
            *(self._read() for _ in range(READERS)),
            *(self._subscribe() for _ in range(SUBSCRIBERS)),
        ]

    async def _publish(self) -> None:
        due, slots = time.monotonic(), asyncio.Semaphore(32)

        async def publish(activity: Activity) -> None:
            try:
                await self._client.activities.PublishActivity(
                    PublishActivityRequest(activity=activity)
                )
            finally:
                slots.release()
            self.published += 1

        async with asyncio.TaskGroup() as group:
            while True:
                # What was held up is not made up for.
                due = max(due + 1 / self._rate, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                await self._room.wait()
                await slots.acquire()
                number = next(self._numbers)
                to = self._chance.sample(TOPICS, 16) if number % 2 else []
                activity = Activity(actor=self._chance.choice(AUTHORS), verb="post", to=to)
                if number % 10 == 0:
                    activity.external_id = f"external:{number}"
                group.create_task(publish(activity))

    async def _look_at_the_queue(self) -> None:
        """Hold publishing up while the workers are behind."""
        while True:
            status = await self._client.admin.GetFanoutStatus(GetFanoutStatusRequest())
            (self._room.set if status.open_count < WAITING else self._room.clear)()
            await asyncio.sleep(0.2)

    async def _churn(self) -> None:
        """Edges come and go."""
        while True:
            edge = (self._chance.choice(USERS), self._chance.choice(AUTHORS))
            await self._client.follows.Follow(FollowRequest(follower=edge[0], followee=edge[1]))
            await asyncio.sleep(0.05)
            await self._client.follows.Unfollow(UnfollowRequest(follower=edge[0], followee=edge[1]))

    async def _read(self) -> None:
        """Walks, some of them below what is stored of the feed."""
        while True:
            user, token = self._chance.choice(USERS), ""
            for _ in range(self._chance.randrange(1, 8)):
                request = GetFeedRequest(user=user, page_size=20, page_token=token)
                token = (await self._client.feeds.GetFeed(request)).page.next_page_token
                if not token:
                    break
            await asyncio.sleep(0.02)

    async def _subscribe(self) -> None:
        """Stay for a while, and leave."""
        while True:
            live = self._client.subscribe(self._chance.choice(USERS))
            self.streams += 1
            with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
                async with asyncio.timeout(self._chance.uniform(0.5, 4)):
                    async for _ in live:
                        pass
            await live.aclose()
