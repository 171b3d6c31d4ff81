"""A store that refuses writes: every read still answers, and writes say when to try again.

Reads fall back to the outboxes.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from activityfeed.v1.activity_service_pb2 import ListActivitiesRequest
from activityfeed.v1.follow_service_pb2 import BatchGetRelationshipsRequest
from redis.exceptions import OutOfMemoryError, ResponseError

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.embedded import EmbeddedStore, ServerBinary
from tests.serving import Serve, Service, expect_refusal, wait_until
from tests.stores import find_redis7

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40)
#: Outboxes that a page below the stored feed merges.
AUTHORS = 30

Refusing = Callable[[Service], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def full(service: Service) -> AsyncIterator[None]:
    """Fill the store's memory."""
    await service.store.config_set("maxmemory", "1")

    async def refuses() -> bool:
        """Return whether the store refuses; it does not while it frees flushed data."""
        try:
            await service.store.set("{0}probe", "")
        except OutOfMemoryError:
            return True
        await service.store.delete("{0}probe")
        return False

    try:
        await wait_until(refuses)
        yield
    finally:
        await service.store.config_set("maxmemory", "0")


@asynccontextmanager
async def without_replicas(service: Service) -> AsyncIterator[None]:
    """Make the store require replicas, of which it has none."""
    await service.store.config_set("min-replicas-to-write", "1")
    try:
        yield
    finally:
        await service.store.config_set("min-replicas-to-write", "0")


async def prepare_feeds(service: Service) -> dict[str, list[str]]:
    """Prepare users with feeds in each state; return the expected feeds by user.

    The feeds are warm, cold, being built, with a PULL edge, and near their expiry.
    """
    authors = [f"a{number}" for number in range(AUTHORS)]
    users = ["warm", "cold", "building", "unsettled", "old"]
    await service.follow_all([(user, author) for user in users for author in authors])
    posted: list[str] = []
    for author in authors:
        posted += await service.post_many(author, 3)
    expected = sorted(posted, reverse=True)
    await service.warm(*users)
    await service.make_cold("cold", "building")
    await service.store.rpush(keys.feed(service.tag("building"), "building"), "!0123456789abcdef")
    await service.store.sadd(keys.pulled(service.tag("unsettled"), "unsettled"), "a1")
    # The next read is due to extend the expiry.
    await service.store.expire(keys.feed(service.tag("old"), "old"), 60)
    return dict.fromkeys(users, expected)


async def check_reads(service: Service, refusing: Refusing) -> None:
    feeds = await prepare_feeds(service)
    # The log of this feed has no lease any more, but the store cannot delete it now.
    await (await service.subscribe("warm")).close()
    await service.store.zadd(keys.live(service.tag("warm")), {"warm": 1})
    async with refusing(service):
        for write in (service.post("a0"), service.follow("warm", "carol")):
            assert (await expect_refusal(write)).reason == "STORE_UNAVAILABLE"
        for user, expected in feeds.items():
            assert await service.feed(user, size=7) == expected, user
            top_page = await service.page(user, size=5)
            page = await service.page(user, (await service.page(user, size=50)).next_page_token, 5)
            newer_pages = [
                newer_page
                async for newer_page in service.walk_newer(user, page.newer_page_token, 20)
            ]
            newer_ids = [
                item.activity.activity.id
                for newer_page in reversed(newer_pages)
                for item in newer_page.items
            ]
            assert newer_ids == expected[:50], user
            assert not (await service.verify(user)).differences
            await service.stats(user)
            # A resumable page begins a log, and so needs a write.
            refusal = await expect_refusal(service.page(user, resumable=True))
            assert refusal.reason == "STORE_UNAVAILABLE"
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
            assert refusal.retry_ms
            assert top_page.items
        expected = feeds["cold"]
        assert (await service.get(expected[0])).id == expected[0]
        assert (await service.delivery(expected[0])).state
        listed = await service.activities.ListActivities(ListActivitiesRequest(entity="a1"))
        assert len(listed.activities) == 3
        assert await service.counts("a1") == (len(feeds), 0)
        assert sorted(await service.followers("a1", size=2)) == sorted(feeds)
        assert len(await service.following("warm", size=7)) == AUTHORS
        answer = await service.follows.BatchGetRelationships(
            BatchGetRelationshipsRequest(entity="warm", others=["a1", "carol"])
        )
        followed = [relationship.following for relationship in answer.relationships]
        assert followed == [True, False]
    for user, expected in feeds.items():
        assert await service.feed(user, size=7) == expected
    await service.post("a0")


@pytest.mark.every_store
@pytest.mark.parametrize(
    "refusing", [full, without_replicas], ids=lambda refusing: refusing.__name__
)
async def test_reads_answer_while_the_store_refuses_writes(
    serve: Serve, refusing: Refusing
) -> None:
    await check_reads(await serve(limits=SMALL), refusing)


@pytest.mark.parametrize("kind", ["valkey", "redis7"])
async def test_reads_answer_while_the_store_cannot_save(tmp_path: Path, kind: str) -> None:
    """A folder in place of the snapshot makes the save fail (MISCONF)."""
    server: ServerBinary | None = find_redis7() if kind == "redis7" else None
    store = EmbeddedStore(tmp_path / "store", durable=False, server=server)
    await store.start()
    try:
        service = await Service.start(store.url, SMALL)

        @asynccontextmanager
        async def unable_to_save(service: Service) -> AsyncIterator[None]:
            settings = {
                setting: (await service.store.config_get(setting))[setting]
                for setting in ("dir", "dbfilename")
            }
            obstacle = Path(settings["dir"]) / settings["dbfilename"]
            obstacle.mkdir()
            await service.store.config_set("stop-writes-on-bgsave-error", "yes")
            await service.store.config_set("save", "3600 1000000")
            await service.store.bgsave()

            async def refuses() -> bool:
                try:
                    await service.store.set("probe", "")
                except ResponseError:
                    return True
                return False

            await wait_until(refuses)
            yield
            await service.store.config_set("save", "")
            obstacle.rmdir()

        try:
            await check_reads(service, unable_to_save)
        finally:
            await service.stop()
    finally:
        await store.stop()
