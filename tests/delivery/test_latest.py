"""The store's greatest id: one command appends an id above it to the end of every list."""

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
from tests.serving import frame_of, open_engine

LIMITS = Limits(shards=4)
FAN = "fan"
contents = map(str, itertools.count())


@pytest.fixture
async def engine(store_url: str) -> AsyncIterator[Engine]:
    async with open_engine(store_url, LIMITS) as engine:
        yield engine


def activity(actor: str) -> NewActivity:
    content = next(contents)
    frame = frame_of(actor, content=content)
    return NewActivity(actor, (), True, None, "", frame, digest(content.encode()))


async def publish(engine: Engine, actor: str) -> int:
    return (await engine.activities.publish(activity(actor), "")).id


async def feed_of(engine: Engine, user: str) -> list[int]:
    """Return the ids of a feed as it is stored: oldest first."""
    store = engine.store
    shard = engine.store.shard_for(user)
    name = keys.feed(store.tags[shard], user, store.incarnations[shard])
    _floor, *activity_ids = await store.call("LRANGE", name, 0, -1)
    return [int(activity_id) for activity_id in activity_ids]


async def latest(engine: Engine) -> int:
    return int(await engine.store.call("GET", keys.LATEST) or 0)


def set_clock_behind(engine: Engine, milliseconds: int) -> None:
    """Let a process propose ids of a time that has passed."""
    now_ms = engine.store.clock.now_ms
    engine.activities._store = _StoreWithClock(engine.store, lambda: now_ms() - milliseconds)  # type: ignore[assignment]


class _StoreWithClock:
    """A store with another clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self.clock = type("Clock", (), {"now_ms": staticmethod(now_ms)})()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_activities_of_several_servers_have_one_order(store_url: str) -> None:
    """The order holds even if the clock of a server is a little behind."""
    async with open_engine(store_url, LIMITS) as first, open_engine(store_url, LIMITS) as second:
        set_clock_behind(second, 500)
        await first.edges.follow([NewEdge(FAN, "alice"), NewEdge(FAN, "bob")])
        await first.feeds.warm(FAN)
        published = []
        for _ in range(10):
            published.append(await publish(first, "alice"))
            published.append(await publish(second, "bob"))
        assert published == sorted(published)
        assert await feed_of(first, FAN) == published
        assert await latest(first) == published[-1]


async def test_greatest_id_far_ahead_does_not_hold_later_ids(engine: Engine) -> None:
    """The store's clock may be set back: later activities do not get ids an hour ahead."""
    await engine.edges.follow([NewEdge(FAN, "alice"), NewEdge(FAN, "bob")])
    await engine.feeds.warm(FAN)
    hour = 3_600_000
    ahead = ids.make(engine.store.clock.now_ms() + hour, 0, engine.store.shard_for("bob"))
    shard = engine.store.shard_for(FAN)
    await engine.store.script("outbox_add", shard, FAN, ahead)
    assert await latest(engine) == ahead
    published = [await publish(engine, "alice") for _ in range(3)]
    assert all(
        ids.ms_of(activity_id) < engine.store.clock.now_ms() + hour // 2
        for activity_id in published
    )
    assert await feed_of(engine, FAN) == [*published, ahead]
    assert await latest(engine) == ahead


async def add_to_outbox(engine: Engine, activity_id: int) -> None:
    await engine.store.script("outbox_add", engine.store.shard_for("bob"), "bob", activity_id)


async def push(engine: Engine, activity_id: int) -> None:
    shard = engine.store.shard_for(FAN)
    await engine.store.script("push", [shard], "alice", activity_id, 10, 1, "-inf")


async def settle(engine: Engine, activity_id: int) -> None:
    """Settle with an id that was read from an outbox before the store lost it."""
    shard = engine.store.shard_for(FAN)
    edges = keys.edges(engine.store.tags[shard], FAN)
    position = await engine.store.call("HGET", edges, "alice")
    await engine.store.call("SADD", keys.pulled(engine.store.tags[shard], FAN), "alice")
    is_settled = await engine.store.script(
        "settle", shard, FAN, "alice", position, "", "0", f"{activity_id:019}"
    )
    assert is_settled


@pytest.mark.parametrize("insert", [add_to_outbox, push, settle])
async def test_ids_of_a_lost_history_raise_the_greatest_id(
    engine: Engine, insert: Callable[[Engine, int], Awaitable[None]]
) -> None:
    """Lists keep their order though a process that outlived a loss inserts an id from before it."""
    await engine.edges.follow([NewEdge(FAN, "alice"), NewEdge(FAN, "bob")])
    await engine.feeds.warm(FAN)
    # Above the id that the next publish proposes, and near enough for the store to go above it.
    forgotten = ids.make(engine.store.clock.now_ms() + 15, 0, engine.store.shard_for("carol"))
    await insert(engine, forgotten)
    assert await latest(engine) == forgotten
    published = await publish(engine, "alice")
    feed = await feed_of(engine, FAN)
    assert feed == sorted(feed)
    assert published in feed


async def test_publish_leaves_a_broken_feed_to_a_job(engine: Engine) -> None:
    """The publish succeeds, and the followers in other shards have the activity."""
    fans = [f"fan {number}" for number in range(8)]
    await engine.edges.follow([NewEdge(fan, "alice") for fan in fans])
    for fan in fans:
        await engine.feeds.warm(fan)
    shard = engine.store.shard_for(fans[3])
    broken = keys.feed(engine.store.tags[shard], fans[3], engine.store.incarnations[shard])
    await engine.store.call("DEL", broken)
    await engine.store.call("SET", broken, "not a list")
    published = await engine.activities.publish(activity("alice"), "")
    assert published.delivery.state == "queued"
    # In the shard of the broken feed the push may have stopped before other feeds.
    for fan in fans:
        if engine.store.shard_for(fan) != shard:
            assert await feed_of(engine, fan) == [published.id]
    await engine.store.call("DEL", broken)
    await engine.workers.work(everything=True)
    assert (await engine.feeds.page(fans[3], Cursor(), 10)).items[0][0] == published.id


async def test_publish_that_delivers_in_one_step_makes_no_job(
    engine: Engine, store_url: str
) -> None:
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


async def test_publish_leaves_a_possible_celebrity_to_the_workers(store_url: str) -> None:
    """The author became a celebrity when the threshold was lowered; no follow has shown it yet."""
    async with open_engine(store_url, LIMITS) as engine:
        await engine.edges.follow([NewEdge(f"fan {number}", "alice") for number in range(6)])
    async with open_engine(store_url, Limits(shards=4, celebrity_threshold=5)) as engine:
        await publish(engine, "alice")
        await engine.workers.work(everything=True)
        assert (await engine.activities.publish(activity("alice"), "")).delivery.state == "pulled"
