"""A store that lost its last writes in a restart: the service notices, and repairs what it can."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
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
from tests import serving
from tests.delivery.conftest import OpenEngine
from tests.harness.clock import Clock, find_library
from tests.harness.processes import Process, store_command
from tests.serving import frame_of

LIMITS = Limits(shards=4, push_chunk=1, inline_audience=1)
NAMES = [f"f{number}" for number in range(8)]


def activity(**changes: object) -> NewActivity:
    fields = {
        "actor": "alice",
        "to": (),
        "followers": True,
        "publish_ms": None,
        "external_id": "",
        "frame": frame_of("alice"),
        "digest": secrets.token_bytes(16),
    }
    return NewActivity(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator["Redis"]:
    async with Redis.from_url(store_url, protocol=2) as client:
        yield client


async def simulate_loss(redis: "Redis", *stores: Store) -> None:
    """Make the store look as if it lost its last writes in a restart: it names another run.

    Cut the connections of `stores`, so that they greet the store again.
    """
    for tag in keys.tags(LIMITS.shards):
        await redis.hset(keys.tallies(tag), "run", secrets.token_hex(20))
    for store in stores:
        assert store._transport.connection is not None
        await store._transport.connection.disconnect(nowait=True)


def edges_of_alice(engine: Engine) -> str:
    """Return the key that holds the mark of alice's followers."""
    tag = keys.tags(LIMITS.shards)[engine.store.shard_for("alice")]
    return keys.edges(tag, "alice")


def run_after_first_mark(
    engine: Engine, happen: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> list[set[tuple[str, int]]]:
    """Let something happen between the first mark of a follow and its edge; return all marks."""
    mark = engine.edges._mark
    marks: list[set[tuple[str, int]]] = []

    async def mark_and_run(shards: set[tuple[str, int]]) -> dict[str, bytes]:
        bitmaps = await mark(shards)
        if not marks:
            await happen()
        marks.append(shards)
        return bitmaps

    monkeypatch.setattr(engine.edges, "_mark", mark_and_run)
    return marks


@pytest.mark.every_store
async def test_feeds_are_cold_and_logs_are_lost_after_a_loss(
    open_engine: OpenEngine, redis: "Redis"
) -> None:
    engine = await open_engine(LIMITS)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    for name in NAMES:
        await engine.feeds.page(name, Cursor(), 5)
    log_position = await engine.start_log("f0")
    published = await engine.activities.publish(activity(), "")
    await engine.workers.work()
    entries, *_ = await engine.logs.read(engine.logs.of_feed("f0"), log_position)
    assert [entry.subject for entry in entries] == [str(published.id)]
    await simulate_loss(redis, engine.store)
    with pytest.raises(LogLost):
        await engine.logs.read(engine.logs.of_feed("f0"), log_position)
    assert engine.store.incarnations == ["1"] * LIMITS.shards
    for name in NAMES:
        assert (await engine.feeds.stats(name)).state == "cold"
        page = await engine.feeds.page(name, Cursor(), 5)
        assert [activity_id for activity_id, _ in page.items] == [published.id]
        assert (await engine.feeds.stats(name)).state == "warm"
    # The sweep removes the remains of the earlier feeds, and nothing else.
    assert await sweep(engine.store) == len(NAMES)
    assert await sweep(engine.store) == 0
    for name in NAMES:
        assert (await engine.feeds.stats(name)).state == "warm"


@pytest.mark.every_store
async def test_reconnecting_to_a_store_that_lost_nothing_changes_nothing(
    open_engine: OpenEngine,
) -> None:
    """A server that reconnects to the same run keeps its caches."""
    engine, other = await open_engine(LIMITS), await open_engine(LIMITS)
    assert engine.store._transport.connection is not None
    await engine.store._transport.connection.disconnect(nowait=True)
    await engine.edges.follow([NewEdge("f0", "alice")])
    assert engine.store.incarnations == other.store.incarnations == [""] * LIMITS.shards


async def test_two_processes_count_one_loss_once(open_engine: OpenEngine, redis: "Redis") -> None:
    engine, other = await open_engine(LIMITS), await open_engine(LIMITS)
    await simulate_loss(redis, engine.store, other.store)
    await asyncio.gather(engine.store.call("PING"), other.store.call("PING"))
    assert engine.store.incarnations == other.store.incarnations == ["1"] * LIMITS.shards


@pytest.mark.every_store
async def test_lost_pushes_are_repeated(open_engine: OpenEngine, redis: "Redis") -> None:
    """A worker that outlives the loss forgets its progress and uses the progress in the store."""
    engine = await open_engine(LIMITS)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    await engine.activities.publish(activity(), "")
    (taken,) = await engine.workers.take()
    sources = await engine.fanout.sources(engine.store, taken.job)
    assert sources
    await simulate_loss(redis, engine.store)
    for call in (
        engine.jobs.checkpoint(engine.store, taken),
        engine.jobs.finish(engine.store, taken, "delivered"),
    ):
        with pytest.raises(JobLost):
            await call
    (again,) = await engine.workers.take(everything=True)
    assert again.era == engine.store.eras[again.shard] != taken.era
    await engine.workers.do(again)
    assert (await engine.jobs.status()).waiting == 0


@pytest.mark.every_store
async def test_publish_during_a_loss_is_queued_again(
    open_engine: OpenEngine, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await open_engine(LIMITS)
    work = engine.fanout.work

    async def work_after_a_loss(*arguments: object) -> bool:
        await simulate_loss(redis, engine.store)
        return await work(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.fanout, "work", work_after_a_loss)
    published = await engine.activities.publish(activity(to=("repo:x",)), "")
    assert published.delivery.state == "queued"
    monkeypatch.undo()
    assert (await engine.jobs.status()).waiting == 1
    assert await engine.workers.work(everything=True) == 1
    delivery = await engine.activities.delivery(published.id, "alice", ("repo:x",))
    assert delivery.state == "delivered"


@pytest.mark.every_store
async def test_edge_whose_mark_was_lost_is_marked_again(
    open_engine: OpenEngine, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """No publish reaches a follower whose shard is not marked."""
    engine = await open_engine(LIMITS)

    async def lose_the_mark() -> None:
        await redis.delete(edges_of_alice(engine))
        await simulate_loss(redis, engine.store)

    marks = run_after_first_mark(engine, lose_the_mark, monkeypatch)
    await engine.edges.follow([NewEdge("f0", "alice")])
    assert len(marks) == 2
    await engine.feeds.page("f0", Cursor(), 5)
    published = await engine.activities.publish(activity(), "")
    assert published.delivery.feeds == 1


@pytest.mark.every_store
async def test_each_connection_of_the_workers_reaches_feeds_after_a_loss(
    open_engine: OpenEngine, redis: "Redis"
) -> None:
    """Connections that have not been used since the loss reach feeds too."""
    engine = await open_engine(LIMITS)
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    engine.workers.start(3)
    await simulate_loss(redis, engine.store)
    for name in NAMES:
        await engine.feeds.page(name, Cursor(), 5)
    for _ in range(5):
        published = await engine.activities.publish(activity(), "", wait_seconds=5)
        assert published.delivery.state == "delivered"
        assert published.delivery.feeds == len(NAMES)
    await engine.workers.close()


@pytest.mark.every_store
async def test_lost_writes_to_other_outboxes_are_repeated(
    open_engine: OpenEngine, redis: "Redis"
) -> None:
    """The write to another shard's outbox may be lost although its job is finished."""
    engine = await open_engine(LIMITS)
    published = await engine.activities.publish(activity(to=("repo:x", "topic:y")), "")
    shard = engine.store.shard_for("repo:x")
    await redis.delete(f"{keys.tags(LIMITS.shards)[shard]}o:repo:x")
    await simulate_loss(redis, engine.store)
    assert await engine.workers.work() == 1
    log = engine.logs.of_outbox("repo:x")
    page = await engine.feeds.outbox_page("repo:x", log, Cursor(), 5, lambda _: True)
    assert [activity_id for activity_id, _ in page.items] == [published.id]
    for _ in range(2):  # two losses in a row: workers repeat the write once
        await simulate_loss(redis, engine.store)
        await engine.store.call("PING")
    assert await engine.workers.work() == 1


@pytest.mark.every_store
async def test_second_loss_is_distinguished_from_the_first(
    open_engine: OpenEngine, redis: "Redis", store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two losses go back to one snapshot: the second loses the mark made after the first."""
    engine = await open_engine(LIMITS)
    tallies = {tag: await redis.dump(keys.tallies(tag)) for tag in keys.tags(LIMITS.shards)}

    async def restore_snapshot() -> None:
        """Restore the snapshot, which an earlier run wrote; let another process notice it first."""
        for tag, content in tallies.items():
            await redis.restore(keys.tallies(tag), 0, content, replace=True)
            await redis.hset(keys.tallies(tag), "run", "0" * 40)
        async with serving.open_engine(store_url, LIMITS):
            pass

    await restore_snapshot()
    await engine.store.greet_again()

    async def lose_the_mark() -> None:
        await redis.delete(edges_of_alice(engine))
        await restore_snapshot()

    marks = run_after_first_mark(engine, lose_the_mark, monkeypatch)
    await engine.edges.follow([NewEdge("f0", "alice")])
    assert len(marks) == 2
    await engine.feeds.page("f0", Cursor(), 5)
    assert (await engine.activities.publish(activity(), "")).delivery.feeds == 1


@pytest.mark.every_store
@pytest.mark.parametrize("step_audience", [0, 1])
async def test_push_by_a_process_unaware_of_a_loss_reaches_live_users(
    open_engine: OpenEngine, redis: "Redis", step_audience: int
) -> None:
    """Without its log, a user whose lease a push took could not subscribe for half an hour."""
    engine = await open_engine(replace(LIMITS, step_audience=step_audience))
    await engine.edges.follow([NewEdge("f0", "alice")])
    await simulate_loss(redis)  # the connection stays open: the engine does not learn of the loss
    other = await open_engine(LIMITS)
    log_position = await other.start_log("f0")
    published = await engine.activities.publish(activity(), "")
    # No job remains for workers if the step that published delivered the activity too.
    in_step = step_audience and not engine.store.cluster
    assert await engine.workers.work(everything=True) == (0 if in_step else 1)
    log = other.logs.of_feed("f0")
    entries, *_ = await other.logs.read(log, log_position)
    assert [entry.subject for entry in entries] == [str(published.id)]
    await other.start_log("f0")


@pytest.mark.every_store
async def test_log_without_a_lease_is_replaced(open_engine: OpenEngine, redis: "Redis") -> None:
    """The user of a leftover log can subscribe at once, not only after the log expires."""
    engine = await open_engine(LIMITS)
    log_position = await engine.start_log("f0")
    tag = keys.tags(LIMITS.shards)[engine.store.shard_for("f0")]
    await redis.zrem(keys.live(tag), "f0")
    assert await engine.start_log("f0") != log_position
    with pytest.raises(LogLost):
        await engine.logs.read(engine.logs.of_feed("f0"), log_position)


@asynccontextmanager
async def own_store(
    folder: Path, fsync: str, *options: str, clock: Clock | None = None
) -> AsyncIterator[tuple[Process, Engine, "Redis"]]:
    """Run a store process, an engine on it, and a client of it."""
    socket = folder / "store.sock"
    url = f"unix://{socket}"
    command = [*store_command(folder, socket, fsync), *options]
    store = Process("store", command, folder / "store.log", clock.environment if clock else {})
    store.launch()
    try:
        await store.wait_for_line("Ready to accept")
        async with (
            serving.open_engine(url, LIMITS) as engine,
            Redis.from_url(url, protocol=2) as redis,
        ):
            yield store, engine, redis
    finally:
        store.kill()


@pytest.mark.skipif(find_library() is None, reason="clocks are not stepped without libfaketime")
@pytest.mark.parametrize(("first", "then"), [(0, -3600), (-3600, 0)])
async def test_jobs_are_repeated_after_a_loss_though_the_clock_was_set(
    tmp_path: Path, first: int, then: int
) -> None:
    """Workers repeat jobs from before the loss, and no others."""
    clock = Clock(tmp_path / "clock")
    clock.step(first)
    async with own_store(tmp_path, "everysec", clock=clock) as (_, engine, redis):
        to = tuple(f"repo:{number}" for number in range(8))
        await engine.activities.publish(activity(to=to), "")
        clock.step(then)
        await simulate_loss(redis, engine.store)
        assert await engine.workers.work() == 1
        await engine.activities.publish(activity(to=to), "")
        await simulate_loss(redis, engine.store)
        await engine.store.call("PING")
        clock.step(first)
        async with asyncio.timeout(10):
            assert await engine.workers.work() == 2


async def test_store_that_still_loads_its_data_is_not_taken_for_a_loss(tmp_path: Path) -> None:
    """While it loads, the store says that it has no append-only file."""
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

        async with asyncio.timeout(30):  # the store answers each tenth of a second
            await asyncio.gather(*(greet(number) for number in range(12)))
        await engine.store.call("PING")
        assert engine.store.incarnations == [""] * LIMITS.shards


@pytest.mark.skipif(find_library() is None, reason="clocks are not stepped without libfaketime")
async def test_lost_id_is_not_given_to_another_activity(tmp_path: Path) -> None:
    """The clock is behind the outbox's newest id, so that ids have to be above that id."""
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
        async with serving.open_engine(f"unix://{tmp_path}/store.sock", LIMITS) as restarted:
            later = {(await restarted.activities.publish(activity(), "")).id for _ in range(5)}
        assert not lost & later


async def test_concurrent_rebuilds_of_cold_feeds_are_limited(open_engine: OpenEngine) -> None:
    """Reads beyond the limit are answered from the outboxes."""
    engine = await open_engine(Limits(shards=4, max_builds=2))
    await engine.edges.follow([NewEdge(name, "alice") for name in NAMES])
    published = await engine.activities.publish(activity(), "")
    pages = await asyncio.gather(*(engine.feeds.page(name, Cursor(), 5) for name in NAMES))
    assert all([activity_id for activity_id, _ in page.items] == [published.id] for page in pages)
    states = [(await engine.feeds.stats(name)).state for name in NAMES]
    assert 1 <= states.count("warm") < len(NAMES)
