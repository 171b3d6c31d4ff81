"""The greatest id: what is above it goes to the end of every list, by one command."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from feedsvc.config import Limits
from feedsvc.core import ids, keys
from feedsvc.core.activities import NewActivity, digest
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.pages import Cursor
from feedsvc.core.store import Store
from tests.serving import engine_on, frame_of

LIMITS = Limits(shards=4)
FAN = "fan"
numbers = itertools.count()


@pytest.fixture
async def engine(store_url: str) -> AsyncIterator[Engine]:
    async with engine_on(store_url, LIMITS) as engine:
        yield engine


def activity(actor: str) -> NewActivity:
    what = str(next(numbers)).encode()
    return NewActivity(actor, (), True, None, "", frame_of(actor, what=what.decode()), digest(what))


async def publish(engine: Engine, actor: str) -> int:
    return (await engine.activities.publish(activity(actor), "")).id


async def feed_of(engine: Engine, user: str) -> list[int]:
    """The ids of a feed, as it is stored: oldest first."""
    store = engine.store
    shard = engine.activities.shard(user)
    name = keys.feed(store.tags[shard], user, store.incarnations[shard])
    return [int(one) for one in (await store.call("LRANGE", name, 0, -1))[1:]]


async def latest(engine: Engine) -> int:
    return int(await engine.store.call("GET", keys.LATEST) or 0)


def behind(engine: Engine, milliseconds: int) -> None:
    """Have a process propose ids of a time that has passed."""
    now_ms = engine.store.clock.now_ms
    engine.activities._store = _Behind(engine.store, lambda: now_ms() - milliseconds)  # type: ignore[assignment]


class _Behind:
    """A store whose clock says something else."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self.clock = type("Clock", (), {"now_ms": staticmethod(now_ms)})()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_activities_of_several_servers_have_one_order(store_url: str) -> None:
    """Also where what one of them takes for the time is a little behind."""
    async with engine_on(store_url, LIMITS) as first, engine_on(store_url, LIMITS) as second:
        behind(second, 500)
        await first.edges.follow([NewEdge(FAN, "alice"), NewEdge(FAN, "bob")])
        await first.feeds.warm(FAN)
        published = []
        for _ in range(10):
            published.append(await publish(first, "alice"))
            published.append(await publish(second, "bob"))
        assert published == sorted(published)
        assert await feed_of(first, FAN) == published
        assert await latest(first) == published[-1]


async def test_latest_far_ahead_pins_nothing(engine: Engine) -> None:
    """The store's clock may be set back: what comes then is not put an hour ahead with it."""
    await engine.edges.follow([NewEdge(FAN, "alice"), NewEdge(FAN, "bob")])
    await engine.feeds.warm(FAN)
    hour = 3_600_000
    ahead = ids.make(engine.store.clock.now_ms() + hour, 0, engine.activities.shard("bob"))
    shard = engine.activities.shard(FAN)
    await engine.store.script("outbox_add", shard, FAN, ahead)
    assert await latest(engine) == ahead
    published = [await publish(engine, "alice") for _ in range(3)]
    assert all(ids.ms_of(one) < engine.store.clock.now_ms() + hour // 2 for one in published)
    assert await feed_of(engine, FAN) == [*published, ahead]
    assert await latest(engine) == ahead


async def added(engine: Engine, activity_id: int) -> None:
    await engine.store.script("outbox_add", engine.activities.shard("bob"), "bob", activity_id)


async def pushed(engine: Engine, activity_id: int) -> None:
    shard = engine.activities.shard(FAN)
    await engine.store.script("push", [shard], "alice", activity_id, 10, 1, "-inf")


async def settled(engine: Engine, activity_id: int) -> None:
    """What was read of an outbox before the store lost it."""
    shard = engine.activities.shard(FAN)
    edges = keys.edges(engine.store.tags[shard], FAN)
    position = await engine.store.call("HGET", edges, "alice")
    await engine.store.call("SADD", keys.pulled(engine.store.tags[shard], FAN), "alice")
    done = await engine.store.script(
        "settle", shard, FAN, "alice", position, "", "0", f"{activity_id:019}"
    )
    assert done


@pytest.mark.parametrize("bring", [added, pushed, settled])
async def test_what_comes_from_a_lost_history_is_known(
    engine: Engine, bring: Callable[[Engine, int], Awaitable[None]]
) -> None:
    """A process that lives on brings ids which the store has forgotten: lists keep their order."""
    await engine.edges.follow([NewEdge(FAN, "alice"), NewEdge(FAN, "bob")])
    await engine.feeds.warm(FAN)
    # Above what the next publish proposes, and not so far that it is left alone.
    forgotten = ids.make(engine.store.clock.now_ms() + 15, 0, engine.activities.shard("carol"))
    await bring(engine, forgotten)
    assert await latest(engine) == forgotten
    published = await publish(engine, "alice")
    feed = await feed_of(engine, FAN)
    assert feed == sorted(feed)
    assert published in feed


async def test_broken_feed_leaves_the_rest_to_a_job(engine: Engine) -> None:
    """Nothing is half done: the activity is there, and the others have it."""
    fans = [f"fan {number}" for number in range(8)]
    await engine.edges.follow([NewEdge(fan, "alice") for fan in fans])
    for fan in fans:
        await engine.feeds.warm(fan)
    shard = engine.activities.shard(fans[3])
    broken = keys.feed(engine.store.tags[shard], fans[3], engine.store.incarnations[shard])
    await engine.store.call("DEL", broken)
    await engine.store.call("SET", broken, "no list")
    published = await engine.activities.publish(activity("alice"), "")
    assert published.delivery.state == "queued"
    # Those of the broken one's shard may be behind it.
    for fan in fans:
        if engine.activities.shard(fan) != shard:
            assert await feed_of(engine, fan) == [published.id]
    await engine.store.call("DEL", broken)
    await engine.workers.work(everything=True)
    assert (await engine.feeds.page(fans[3], Cursor(), 10)).items[0][0] == published.id


async def test_step_that_publishes_makes_no_job(engine: Engine, store_url: str) -> None:
    redis = Redis.from_url(store_url, protocol=2)
    await engine.edges.follow([NewEdge(f"fan {number}", "alice") for number in range(40)])
    await engine.feeds.warm("fan 1")
    before = await redis.info("commandstats")
    published = await engine.activities.publish(activity("alice"), "")
    after = await redis.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] == before["cmdstat_evalsha"]["calls"] + 1
    assert "cmdstat_zadd" not in after or after["cmdstat_zadd"] == before["cmdstat_zadd"]
    assert published.delivery.state == "delivered"
    assert (published.delivery.feeds, published.delivery.cold) == (1, 39)
    assert published.delivery.audience == 40
    await redis.aclose()


async def test_step_leaves_who_may_be_a_celebrity_to_be_counted(store_url: str) -> None:
    """The threshold may have been lowered since the last follow."""
    async with engine_on(store_url, LIMITS) as engine:
        await engine.edges.follow([NewEdge(f"fan {number}", "alice") for number in range(6)])
    async with engine_on(store_url, Limits(shards=4, celebrity_threshold=5)) as engine:
        await publish(engine, "alice")
        await engine.workers.work(everything=True)
        assert (await engine.activities.publish(activity("alice"), "")).delivery.state == "pulled"
