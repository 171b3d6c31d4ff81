"""What a soak runs: a store, a server, and clients that publish, read, follow and subscribe."""

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
from tests.soak.samples import Samples, Series, count_keys, resident_mb

USERS = [f"user:{number}" for number in range(300)]
AUTHORS = [f"author:{number}" for number in range(100)]
TOPICS = [f"topic:{number}" for number in range(32)]
#: Number of followees of each user.
FOLLOWEES = 20
SUBSCRIBERS, READERS = 40, 4
#: Number of waiting deliveries from which publishers pause.
MAX_WAITING = 200
#: Seconds between samples.
SAMPLE_SECONDS = 2.0
#: Settings under which everything that has an end ends soon.
SETTINGS = {
    "feed-cap": 20,
    "feed-slack": 5,
    "outbox-cap": 30,
    "feed-ttl": 8,
    "request-ttl": 8,
    "delivery-ttl": 5,
    "log-lease": 3,
    "log-cap": 50,
    "heartbeat-interval": 1,
    "max-stream-age": 10,
    "inline-audience": 40,
}
#: Gets the seconds that have passed, and a line about the state of the run.
Report = Callable[[float, str], None]


async def soak(folder: Path, *, seconds: float, rate: float, report: Report) -> list[Series]:
    """Run all clients for some seconds; return the series of samples."""
    options = [f"--{name}={value}" for name, value in SETTINGS.items()]
    async with (
        EmbeddedStore(folder / "store", durable=False) as store,
        Redis.from_url(store.url, protocol=2) as redis,
    ):
        command = feedsvc_command("serve", "--port=0", f"--redis-url={store.url}", *options)
        server = Process("server", command, folder / "server.log", {})
        server.launch()
        try:
            line = await server.wait_for_line("serving on")
            target = f"127.0.0.1:{line.rpartition(':')[2].strip()}"
            async with FeedClient.connect(target) as client:
                clients = Clients(client, rate)
                await clients.make_edges()
                return await _take_samples(clients, server, redis, seconds, report)
        finally:
            server.kill()


async def _take_samples(
    clients: "Clients", server: Process, redis: Any, seconds: float, report: Report
) -> list[Series]:
    samples, ends = Samples(), time.monotonic() + seconds
    tasks = [asyncio.create_task(activity) for activity in clients.activities()]
    try:
        while time.monotonic() < ends:
            await asyncio.sleep(SAMPLE_SECONDS)
            for task in tasks:
                if task.done():
                    task.result()
            server.check()
            store_mb = (await redis.info("memory"))["used_memory"] / 1e6
            memory = {"server": resident_mb(server.pid), "store": store_mb}
            samples.add(memory, "MB")
            samples.add(await count_keys(redis))
            samples.end()
            report(
                seconds - max(0.0, ends - time.monotonic()),
                f"{clients.published:,} published, {clients.streams:,} streams, "
                f"server {memory['server']:.0f} MB, store {store_mb:.1f} MB",
            )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return samples.series


class Clients:
    """Clients that publish, read, follow and subscribe without an end."""

    def __init__(self, client: FeedClient, rate: float) -> None:
        self._client = client
        self._rate = rate
        self._chance = random.Random(1)
        self._numbers = itertools.count()
        self._queue_has_room = asyncio.Event()
        """Set while few deliveries wait: a queue that fills up to its limit is no leak."""
        self.published = 0
        self.streams = 0

    async def make_edges(self) -> None:
        """Let each user follow authors and topics at random."""
        for user in USERS:
            for followee in self._chance.sample(AUTHORS + TOPICS, FOLLOWEES):
                await self._client.follows.Follow(FollowRequest(follower=user, followee=followee))

    def activities(self) -> list[Awaitable[None]]:
        """Return what each client does."""
        return [  # type: ignore[return-value]
            self._publish(),
            self._watch_queue(),
            self._change_edges(),
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
                # A publisher that was held up does not catch up.
                due = max(due + 1 / self._rate, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                await self._queue_has_room.wait()
                await slots.acquire()
                number = next(self._numbers)
                to = self._chance.sample(TOPICS, 16) if number % 2 else []
                activity = Activity(actor=self._chance.choice(AUTHORS), verb="post", to=to)
                if number % 10 == 0:
                    activity.external_id = f"external:{number}"
                group.create_task(publish(activity))

    async def _watch_queue(self) -> None:
        """Pause the publishers while the workers are behind."""
        while True:
            status = await self._client.admin.GetFanoutStatus(GetFanoutStatusRequest())
            (
                self._queue_has_room.set
                if status.open_count < MAX_WAITING
                else self._queue_has_room.clear
            )()
            await asyncio.sleep(0.2)

    async def _change_edges(self) -> None:
        """Follow and unfollow."""
        while True:
            user, author = self._chance.choice(USERS), self._chance.choice(AUTHORS)
            await self._client.follows.Follow(FollowRequest(follower=user, followee=author))
            await asyncio.sleep(0.05)
            await self._client.follows.Unfollow(UnfollowRequest(follower=user, followee=author))

    async def _read(self) -> None:
        """Read pages of feeds, some of them below the warm part."""
        while True:
            user, token = self._chance.choice(USERS), ""
            for _ in range(self._chance.randrange(1, 8)):
                request = GetFeedRequest(user=user, page_size=20, page_token=token)
                token = (await self._client.feeds.GetFeed(request)).page.next_page_token
                if not token:
                    break
            await asyncio.sleep(0.02)

    async def _subscribe(self) -> None:
        """Open a stream, read it for a while, and leave it."""
        while True:
            live = self._client.subscribe(self._chance.choice(USERS))
            self.streams += 1
            with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
                async with asyncio.timeout(self._chance.uniform(0.5, 4)):
                    async for _ in live:
                        pass
            await live.aclose()
