"""The constants of "Sizing" in docs/operating.md: what a user, a follow and an activity take.

    .venv/bin/python -m benchmarks.sizing

The store syncs every write, as the embedded store does, so that its files can be measured too. Each
row is the difference between two readings: of `used_memory` at rest, and of the bytes that the
store appended to its file. The records of requests have a row of their own. Names look like
`user:123456`.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest
from redis.asyncio import Redis
from rich.console import Console

from benchmarks.harness.stage import serving
from benchmarks.load import population
from benchmarks.memory import at_rest
from feedsvc.cli.load_test.bulk import batches
from feedsvc.config import Limits
from feedsvc.embedded import EmbeddedStore

USERS = 5_000
#: Followees of each user.
FOLLOWEES = 20
#: Activities in each row about activities.
ACTIVITIES = 10_000
#: Users in each row about feeds and live logs.
READERS = 500
#: Author whom all readers follow.
HERALD = "herald"
#: Activities of the herald in each row.
HERALDED = 100

Step = Callable[[], Awaitable[int]]


class Meter:
    """Prints what each step adds to the memory and to the file of the store, for each thing."""

    def __init__(self, redis: Any, files: Path, console: Console) -> None:
        self._redis = redis
        self._files = files
        self._console = console

    async def row(self, title: str, step: Step) -> None:
        """Run a step, which returns the number of things that it made; print bytes for each."""
        await self._forget_requests()
        memory, file = await at_rest(self._redis), self._file_bytes()
        count = await step()
        file = self._file_bytes() - file
        await self._forget_requests()
        memory = await at_rest(self._redis) - memory
        line = f"{title:<60}{memory / count:>10.1f}{file / count:>10.1f}"
        self._console.print(line, highlight=False)

    async def requests(self, title: str, step: Step) -> None:
        """Run a step; print the bytes of the records of its requests."""
        count = await step()
        memory = await at_rest(self._redis)
        await self._forget_requests()
        line = f"{title:<60}{(memory - await at_rest(self._redis)) / count:>10.1f}"
        self._console.print(line, highlight=False)

    async def _forget_requests(self) -> None:
        """Delete the records of requests, which otherwise expire after a minute or a day."""
        names = [key async for key in self._redis.scan_iter(match="{*}q:*", count=1_000)]
        for batch in batches(names, population.BATCH):
            await self._redis.unlink(*batch)

    def _file_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._files.glob("*.aof"))


async def publish(client: FeedClient, actors: Sequence[str], content: int, ids: str = "") -> int:
    """Publish an activity of each actor in turn, with texts of a length; return their number."""
    requests = [
        PublishActivityRequest(
            request_id=f"{ids}-{number:026}" if ids else "",
            activity=Activity(
                actor=actors[number % len(actors)],
                verb="post",
                object=Ref(entity=f"post:{number}"),
                content="x" * content,
            ),
        )
        for number in range(ACTIVITIES)
    ]
    for batch in batches(requests, 100):
        answer = await client.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=batch)
        )
        if not all(result.HasField("response") for result in answer.results):
            raise RuntimeError(f"a publish was refused: {answer}")
    return ACTIVITIES


async def follow(client: FeedClient, edges: Sequence[tuple[str, str]]) -> int:
    """Make edges; return their number."""
    for batch in batches(list(edges), population.BATCH):
        requests = [FollowRequest(follower=follower, followee=author) for follower, author in batch]
        await client.follows.BatchFollow(BatchFollowRequest(requests=requests))
    return len(edges)


async def read(client: FeedClient, users: Sequence[str], *, resumable: bool = False) -> int:
    """Read the first page of each user's feed; return the number of users."""
    for user in users:
        await client.feeds.GetFeed(GetFeedRequest(user=user, page_size=1, resumable=resumable))
    return len(users)


async def main() -> None:
    """Measure and print all rows."""
    console = Console()
    title = "bytes for each"
    console.print(f"{title:<60}{'memory':>10}{'file':>10}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="feedsvc-sizing-") as folder:
        async with (
            EmbeddedStore(Path(folder)) as store,
            serving(store.url, Limits()) as (_, port),
            FeedClient.connect(f"127.0.0.1:{port}", timeout=60, request_ids=False) as client,
            Redis.from_url(store.url, protocol=2) as redis,
        ):
            await redis.config_set("auto-aof-rewrite-percentage", 0)
            meter = Meter(redis, Path(folder) / "appendonlydir", console)
            await measure(meter, client)


async def measure(meter: Meter, client: FeedClient) -> None:
    """Measure row after row; each builds on those before."""
    users = population.users(USERS)
    authors = [f"author:{number}" for number in range(USERS)]
    readers = users[:READERS]
    edges = [
        (user, authors[(number * 37 + other * 101) % USERS])
        for number, user in enumerate(users)
        for other in range(FOLLOWEES)
    ]
    await meter.row("follow, 20 followers an author", lambda: follow(client, edges))
    authors_alone = [f"alone:{number}" for number in range(1_000)]
    await meter.row(
        "activity with a text of 100 bytes, no warm feed",
        lambda: publish(client, authors_alone, 100),
    )
    await meter.row(
        "activity with a text of 1,000 bytes, no warm feed",
        lambda: publish(client, authors_alone, 1_000),
    )
    await meter.requests(
        "record of a publish with a request_id of 33 bytes",
        lambda: publish(client, authors_alone, 100, "sizing"),
    )
    await publish(client, authors, 100)
    await publish(client, authors, 100)
    await follow(client, [(reader, HERALD) for reader in readers])
    await meter.row("warm feed with 80 entries", lambda: read(client, readers))
    await meter.row("warm feed: an entry more", lambda: publish_to(client, readers))
    await meter.row(
        f"live log of a user whose feed has {80 + HERALDED} entries",
        lambda: read(client, readers, resumable=True),
    )
    await meter.row("live log: an entry, and that of its feed", lambda: publish_to(client, readers))


async def publish_to(client: FeedClient, readers: Sequence[str]) -> int:
    """Publish activities that all readers get; return the number of entries of their feeds."""
    for number in range(HERALDED):
        await population.publish(client, population.activity(HERALD, number))
    return HERALDED * len(readers)


if __name__ == "__main__":
    asyncio.run(main())
