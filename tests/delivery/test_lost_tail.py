"""A store that lost its last writes when it was started anew: nothing of ours is wrong for it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.core.activities import NewActivity
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.jobs import JobLost
from feedsvc.core.live_logs import LogLost
from feedsvc.core.pages import Cursor
from feedsvc.core.store import Store
from feedsvc.core.sweep import sweep
from feedsvc.errors import StoreUnavailable
from tests.faults.clock import Clock, library
from tests.faults.processes import Process, store_command
from tests.serving import frame_of

LIMITS = Limits(shards=4, push_chunk=1, inline_audience=1)
NAMES = [f"f{number}" for number in range(8)]


def activity(**what: object) -> NewActivity:
    fields = {
        "actor": "alice",
        "to": (),
        "followers": True,
        "publish_ms": None,
        "external_id": "",
        "body": frame_of("alice"),
        "digest": secrets.token_bytes(16),
    }
    return NewActivity(**(fields | what))  # type: ignore[arg-type]


async def engine_on(url: str, limits: Limits = LIMITS) -> Engine:
    store = Store.at(url, limits)
    await store.open()
    return Engine.on(store)


async def started_anew(redis: "Redis", *stores: Store) -> None:
    """As if the store had lost its last writes and been started anew: the run it knew is another.

    Whoever is connected is cut off, and greets it again.
    """
    for tag in keys.tags(LIMITS.shards):
        await redis.hset(keys.tallies(tag), "run", secrets.token_hex(20))
    for store in stores:
        assert store._transport.connection is not None
        await store._transport.connection.disconnect(nowait=True)


@pytest.mark.every_store
async def test_feeds_are_cold_and_logs_gone(store_url: str) -> None:
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    for name in NAMES:
        await engine.feeds.page(name, Cursor(), 5)
    place = await engine.start_log("f0")
    published = await engine.activities.publish(activity(), "")
    await engine.workers.work()
    assert [one.what for one in (await engine.logs.read(engine.logs.of_feed("f0"), place))[0]] == [
        str(published.id)
    ]
    await started_anew(redis, engine.store)
    with pytest.raises(LogLost):
        await engine.logs.read(engine.logs.of_feed("f0"), place)
    assert engine.store.incarnations == ["1"] * LIMITS.shards
    for name in NAMES:
        assert (await engine.feeds.stats(name)).state == "cold"
        page = await engine.feeds.page(name, Cursor(), 5)
        assert [one for one, _ in page.items] == [published.id]
        assert (await engine.feeds.stats(name)).state == "warm"
    # What is left of the earlier feeds is taken away, and nothing else.
    assert await sweep(engine.store) == len(NAMES)
    assert await sweep(engine.store) == 0
    for name in NAMES:
        assert (await engine.feeds.stats(name)).state == "warm"
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_store_that_loses_nothing_stays_the_same(store_url: str) -> None:
    """Who connects again to the same run finds everything as it was."""
    engine, other = await engine_on(store_url), await engine_on(store_url)
    assert engine.store._transport.connection is not None
    await engine.store._transport.connection.disconnect(nowait=True)
    await engine.edges.follow([NewEdge("f0", "alice")])
    assert engine.store.incarnations == other.store.incarnations == [""] * LIMITS.shards
    await engine.store.close()
    await other.store.close()


async def test_two_processes_see_one_new_run(store_url: str) -> None:
    engine, other = await engine_on(store_url), await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    await started_anew(redis, engine.store, other.store)
    await asyncio.gather(engine.store.call("PING"), other.store.call("PING"))
    assert engine.store.incarnations == other.store.incarnations == ["1"] * LIMITS.shards
    for one in (engine, other):
        await one.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_pushes_that_were_lost_are_made_again(store_url: str) -> None:
    """A worker that lives on forgets what it has done, and goes by what the store knows of it."""
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    await engine.activities.publish(activity(), "")
    (taken,) = await engine.workers.take()
    sources = await engine.fanout.sources(engine.store, taken.job)
    assert sources
    await started_anew(redis, engine.store)
    for step in (
        engine.jobs.checkpoint(engine.store, taken),
        engine.jobs.finish(engine.store, taken, "delivered"),
    ):
        with pytest.raises(JobLost):
            await step
    (again,) = await engine.workers.take(everything=True)
    assert again.incarnation == engine.store.eras[again.shard] != taken.incarnation
    await engine.workers.do(again)
    assert (await engine.jobs.status()).waiting == 0
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_publish_across_a_loss_is_not_called_delivered(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    work = engine.fanout.work

    async def across(*arguments: object) -> bool:
        await started_anew(redis, engine.store)
        return await work(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.fanout, "work", across)
    published = await engine.activities.publish(activity(to=("repo:x",)), "")
    assert published.delivery.state == "queued"
    monkeypatch.undo()
    assert (await engine.jobs.status()).waiting == 1
    assert await engine.workers.work(everything=True) == 1
    delivery = await engine.activities.delivery(published.id, "alice", ("repo:x",))
    assert delivery.state == "delivered"
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_edge_whose_mark_was_lost_is_marked_again(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it no publish would reach the follower."""
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    edges = engine.edges
    mark = edges._mark
    marked = []

    async def lost(wanted: set[tuple[str, int]]) -> dict[str, bytes]:
        found = await mark(wanted)
        if not marked:
            tag = keys.tags(LIMITS.shards)[engine.activities.shard("alice")]
            await redis.delete(keys.edges(tag, "alice"))
            await started_anew(redis, engine.store)
        marked.append(wanted)
        return found

    monkeypatch.setattr(edges, "_mark", lost)
    await edges.follow([NewEdge("f0", "alice")])
    assert len(marked) == 2
    await engine.feeds.page("f0", Cursor(), 5)
    published = await engine.activities.publish(activity(), "")
    assert published.delivery.feeds == 1
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_each_connection_of_the_workers_reaches_feeds_after_a_loss(store_url: str) -> None:
    """Also those that had no reason yet to learn of it."""
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    engine.workers.start(3)
    await started_anew(redis, engine.store)
    for name in NAMES:
        await engine.feeds.page(name, Cursor(), 5)
    for _ in range(5):
        published = await engine.activities.publish(activity(), "", wait_seconds=5)
        assert published.delivery.state == "delivered"
        assert published.delivery.feeds == len(NAMES)
    await engine.workers.close()
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_outboxes_beside_are_written_again(store_url: str) -> None:
    """What an earlier incarnation wrote to another shard may be lost although its job was done."""
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    published = await engine.activities.publish(activity(to=("repo:x", "topic:y")), "")
    shard = engine.activities.shard("repo:x")
    await redis.delete(f"{keys.tags(LIMITS.shards)[shard]}o:repo:x")
    await started_anew(redis, engine.store)
    assert await engine.workers.work() == 1
    log = engine.logs.of_outbox("repo:x")
    page = await engine.feeds.outbox_page("repo:x", log, Cursor(), 5, lambda _: True)
    assert [one for one, _ in page.items] == [published.id]
    for _ in range(2):  # once more after each loss
        await started_anew(redis, engine.store)
        await engine.store.call("PING")
    assert await engine.workers.work() == 1
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_second_loss_is_told_from_the_first(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two losses back to one snapshot: what was marked after the first is lost by the second."""
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    tallies = {tag: await redis.dump(keys.tallies(tag)) for tag in keys.tags(LIMITS.shards)}

    async def lost() -> None:
        """Back to the snapshot, which an earlier run wrote; another process is the first to see."""
        for tag, content in tallies.items():
            await redis.restore(keys.tallies(tag), 0, content, replace=True)
            await redis.hset(keys.tallies(tag), "run", "0" * 40)
        await (await engine_on(store_url)).store.close()

    await lost()
    await engine.store.greet_again()
    edges = engine.edges
    mark = edges._mark
    marked = []

    async def mark_and_lose(wanted: set[tuple[str, int]]) -> dict[str, bytes]:
        found = await mark(wanted)
        if not marked:
            tag = keys.tags(LIMITS.shards)[engine.activities.shard("alice")]
            await redis.delete(keys.edges(tag, "alice"))
            await lost()
        marked.append(wanted)
        return found

    monkeypatch.setattr(edges, "_mark", mark_and_lose)
    await edges.follow([NewEdge("f0", "alice")])
    assert len(marked) == 2
    await engine.feeds.page("f0", Cursor(), 5)
    assert (await engine.activities.publish(activity(), "")).delivery.feeds == 1
    await engine.store.close()
    await redis.aclose()


@pytest.mark.every_store
@pytest.mark.parametrize("step_audience", [0, 1])
async def test_push_by_who_does_not_know_of_a_loss_reaches_live_users(
    store_url: str, step_audience: int
) -> None:
    """A push that took a user's lease and left the log would lock the user out for half an hour."""
    engine = await engine_on(store_url, replace(LIMITS, step_audience=step_audience))
    redis = Redis.from_url(store_url, protocol=2)
    await engine.edges.follow([NewEdge("f0", "alice")])
    await started_anew(redis)  # without cutting the connection: the engine hears nothing of it
    other = await engine_on(store_url)
    place = await other.start_log("f0")
    published = await engine.activities.publish(activity(), "")
    # Workers have nothing to do if the step that published delivered it, else once.
    in_step = step_audience and not engine.store.cluster
    assert await engine.workers.work(everything=True) == (0 if in_step else 1)
    log = other.logs.of_feed("f0")
    assert [one.what for one in (await other.logs.read(log, place))[0]] == [str(published.id)]
    await other.start_log("f0")
    for one in (engine, other):
        await one.store.close()
    await redis.aclose()


@pytest.mark.every_store
async def test_log_without_a_lease_is_begun_anew(store_url: str) -> None:
    """Whatever left it behind: its user is not locked out until it expires."""
    engine = await engine_on(store_url)
    redis = Redis.from_url(store_url, protocol=2)
    place = await engine.start_log("f0")
    tag = keys.tags(LIMITS.shards)[engine.activities.shard("f0")]
    await redis.zrem(keys.live(tag), "f0")
    assert await engine.start_log("f0") != place
    with pytest.raises(LogLost):
        await engine.logs.read(engine.logs.of_feed("f0"), place)
    await engine.store.close()
    await redis.aclose()


@asynccontextmanager
async def own_store(
    folder: Path, fsync: str, *options: str, clock: Clock | None = None
) -> AsyncIterator[tuple[Process, Engine, "Redis"]]:
    """A store process, an engine on it, and a client of it."""
    socket = folder / "store.sock"
    url = f"unix://{socket}"
    command = [*store_command(folder, socket, fsync), *options]
    store = Process("store", command, folder / "store.log", clock.environment if clock else {})
    store.launch()
    try:
        await store.until_it_says("Ready to accept")
        engine = await engine_on(url)
        async with Redis.from_url(url, protocol=2) as redis:
            yield store, engine, redis
        await engine.store.close()
    finally:
        store.kill()


@pytest.mark.skipif(library() is None, reason="clocks are not stepped without libfaketime")
@pytest.mark.parametrize(("first", "then"), [(0, -3600), (-3600, 0)])
async def test_clock_set_back_or_right_beside_a_loss(tmp_path: Path, first: int, then: int) -> None:
    """What was done before the loss is done again, and what was done since is not."""
    clock = Clock(tmp_path / "clock")
    clock.step(first)
    async with own_store(tmp_path, "everysec", clock=clock) as (_, engine, redis):
        to = tuple(f"repo:{number}" for number in range(8))
        await engine.activities.publish(activity(to=to), "")
        clock.step(then)
        await started_anew(redis, engine.store)
        assert await engine.workers.work() == 1
        await engine.activities.publish(activity(to=to), "")
        await started_anew(redis, engine.store)
        await engine.store.call("PING")
        clock.step(first)
        async with asyncio.timeout(10):
            assert await engine.workers.work() == 2


async def test_store_that_is_still_loading_has_lost_nothing(tmp_path: Path) -> None:
    """Until then it says that it has no append-only file."""
    slow = ("--key-load-delay", "100")
    async with own_store(tmp_path, "always", *slow) as (process, engine, redis):
        await engine.activities.publish(activity(), "")
        pipeline = redis.pipeline(transaction=False)
        for number in range(10_000):
            pipeline.rpush("list", number)
        await pipeline.execute()
        assert not engine.store.lossy
        process.kill()
        process.launch()

        async def greet(number: int) -> None:
            store = engine.store.sibling()
            await asyncio.sleep(0.05 * number)
            while True:
                with suppress(StoreUnavailable):
                    await store.call("PING")
                    break

        async with asyncio.timeout(30):  # it answers each tenth of a second; one of them at the end
            await asyncio.gather(*(greet(number) for number in range(12)))
        await engine.store.call("PING")
        assert engine.store.incarnations == [""] * LIMITS.shards


@pytest.mark.skipif(library() is None, reason="clocks are not stepped without libfaketime")
async def test_id_that_was_lost_is_not_given_to_another(tmp_path: Path) -> None:
    """Also when the clock is behind what the outbox holds, and so the id has to be above that."""
    clock = Clock(tmp_path / "clock")
    clock.step(3600)
    async with own_store(tmp_path, "everysec", clock=clock) as (_, engine, redis):
        first = await engine.activities.publish(activity(), "")
        clock.step(0)
        await engine.store.greet_again()
        names = [name async for name in redis.scan_iter()]
        before = {name: await redis.dump(name) for name in names}
        lost = {(await engine.activities.publish(activity(), "")).id for _ in range(5)}
        assert min(lost) > first.id
        await redis.flushall()
        for name, content in before.items():
            await redis.restore(name, 0, content)
        again = await engine_on(f"unix://{tmp_path}/store.sock")
        found = {(await again.activities.publish(activity(), "")).id for _ in range(5)}
        assert not lost & found
        await again.store.close()


async def test_rebuilds_are_limited(store_url: str) -> None:
    """Who reads beyond that is answered from the outboxes."""
    store = Store.at(store_url, Limits(shards=4, max_builds=2))
    await store.open()
    engine = Engine.on(store)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    published = await engine.activities.publish(activity(), "")
    pages = await asyncio.gather(*(engine.feeds.page(name, Cursor(), 5) for name in NAMES))
    assert all([one for one, _ in page.items] == [published.id] for page in pages)
    states = [(await engine.feeds.stats(name)).state for name in NAMES]
    assert 1 <= states.count("warm") < len(NAMES)
    await store.close()
