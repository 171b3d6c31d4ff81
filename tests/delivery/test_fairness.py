"""Queues are fair: by shard, by author, and for what dead processes left behind."""

import asyncio
from collections import Counter

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import GetFanoutStatusRequest

from feedsvc.config import Limits
from feedsvc.core import ids, worker
from feedsvc.core.jobs import TakenJob
from feedsvc.core.store import Store
from feedsvc.core.turns import Turns
from tests.serving import Serve, Service, engine_on, refusal_of, until

#: All in one shard, so that no call comes to all of them.
FANS = [name for name in map("fan{}".format, range(5_000)) if ids.shard_for(name, 256) == 0][:6]


def limits_of(shards: int) -> Limits:
    """Nearly all followers are left to workers."""
    return Limits(shards=shards, push_chunk=2, inline_audience=1)


def author_in(shard: int, shards: int, name: str = "author") -> str:
    """An entity of a shard."""
    return next(
        found
        for number in range(100_000)
        if ids.shard_for(found := f"{name}{number}", shards) == shard
    )


async def backlog(service: Service, author: str, count: int) -> None:
    await service.follow_all([(fan, author) for fan in FANS])
    await service.posts(author, count)


def authors(taken: list[TakenJob]) -> list[str]:
    return [one.job.author for one in taken]


@pytest.mark.every_store
@pytest.mark.parametrize("shards", [16, 256])
@pytest.mark.parametrize("place", ["below", "same", "above"])
async def test_backlog_delays_nobody(
    serve: Serve, store_url: str, monkeypatch: pytest.MonkeyPatch, shards: int, place: str
) -> None:
    """Whatever the shards of both; a look takes few jobs, and the backlog is long."""
    limits = limits_of(shards)
    middle = shards // 2
    hog = author_in(middle, shards, "hog")
    victim = author_in({"below": 0, "same": middle, "above": shards - 1}[place], shards, "victim")
    service = await serve(limits=limits, workers=0)
    await backlog(service, hog, 60)
    await backlog(service, victim, 1)
    monkeypatch.setattr(worker, "JOBS_AT_ONCE", 2)
    # A look that knows nothing is at 16 shards, in turn.
    looks = shards // worker.LOOK_SHARDS
    async with engine_on(store_url, limits) as engine:
        found: list[str] = []
        for _ in range(looks + 2):
            found += authors(await engine.workers.take(engine.workers.next_shards()))
    assert victim in found
    assert hog in found


async def test_shards_take_turns(serve: Serve, store_url: str) -> None:
    """Each of many backlogs gets its share of the jobs taken, one after the other."""
    limits = limits_of(16)
    hogs = [author_in(shard, 16, "hog") for shard in range(0, 16, 3)]
    service = await serve(limits=limits, workers=0)
    for hog in hogs:
        await backlog(service, hog, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "JOBS_AT_ONCE", 1)
        async with engine_on(store_url, limits) as engine:
            found: list[str] = []
            for _ in range(4 * len(hogs)):
                found += authors(await engine.workers.take(engine.workers.next_shards()))
    assert Counter(found) == dict.fromkeys(hogs, 4)


async def test_authors_of_a_shard_take_turns(serve: Serve, store_url: str) -> None:
    limits = limits_of(1)
    service = await serve(limits=limits, workers=0)
    await backlog(service, "hog", 20)
    for author in ("a", "b", "c"):
        await backlog(service, author, 2)
    async with engine_on(store_url, limits) as engine:
        found = authors(await engine.workers.take())
    assert found[:8] == ["hog", "a", "b", "c", "hog", "a", "b", "c"]
    assert found[8:] == ["hog"] * (worker.JOBS_OF_AN_AUTHOR - 2)


async def test_author_holds_no_more_than_a_share_of_a_process(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While jobs of a backlog hang, another author's job is taken; when one ends, the next is."""
    limits = limits_of(16)
    service = await serve(limits=limits, workers=0)
    workers = service.server.engine.workers
    running: list[asyncio.Event] = []
    begun: list[str] = []

    async def hangs(taken: TakenJob) -> None:
        begun.append(taken.job.author)
        running.append(asyncio.Event())
        await running[-1].wait()

    monkeypatch.setattr(workers, "do", hangs)
    await backlog(service, "hog", 30)
    workers.start(1)
    share = worker.JOBS_OF_AN_AUTHOR
    await until(lambda: _so(len(begun) == share))
    await backlog(service, "victim", 1)
    await until(lambda: _so("victim" in begun))
    assert Counter(begun) == {"hog": share, "victim": 1}
    running[0].set()
    await until(lambda: _so(len(begun) == share + 2))
    assert Counter(begun) == {"hog": share + 1, "victim": 1}
    await workers.close()


async def _so(value: bool) -> bool:
    return value


@pytest.mark.every_store
async def test_backlog_does_not_starve_takeover(
    serve: Serve, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dead processes left, in `d` and in `r`, is taken in the next look."""
    limits = limits_of(16)
    hog, left, lost = (author_in(shard, 16) for shard in (0, 9, 13))
    service = await serve(limits=limits, workers=0)
    for author in (left, lost):
        await service.follow_all([(fan, author) for fan in FANS])
    monkeypatch.setattr(worker, "JOBS_AT_ONCE", 4)
    async with engine_on(store_url, limits) as dead, engine_on(store_url, limits) as engine:
        await service.post(lost)
        assert authors(await dead.workers.take()) == [lost]
        posted = await service.post(left)
        (taken,) = await dead.workers.take()
        await dead.jobs.finish(dead.store, taken, "delivered")
        (name,) = await service.store.zrange(f"{service.tag(lost)}r", 0, -1)
        await service.store.zadd(f"{service.tag(lost)}r", {name: 1})
        await service.store.zadd(f"{service.tag(left)}d", {f"+{posted}\0{left}": 1})
        await backlog(service, hog, 60)
        found = authors(await engine.workers.take(engine.workers.next_shards()))
    assert {hog, left, lost} == set(found)


@pytest.mark.every_store
async def test_author_leaves_room_for_others_in_a_full_queue(serve: Serve, store_url: str) -> None:
    """An author may have as many jobs waiting as there is room left."""
    limits = Limits(shards=1, push_chunk=2, inline_audience=1, max_jobs=12)
    service = await serve(limits=limits, workers=0)
    for author in ("hog", "second", "victim"):
        await service.follow_all([(fan, author) for fan in FANS])

    async def fill(author: str) -> int:
        count = 0
        while True:
            try:
                await service.publish(author)
            except grpc.aio.AioRpcError as error:
                reason = refusal_of(error).reason
                break
            count += 1
        assert reason == "FANOUT_OVERLOADED"
        return count

    assert await fill("hog") == 6
    assert await fill("second") == 3
    await service.post("victim")
    status = await service.admin.GetFanoutStatus(GetFanoutStatusRequest())
    assert status.waiting_count == 10
    async with engine_on(store_url, limits) as engine:
        assert await engine.workers.work() == 10
    assert await fill("hog") == 6


async def test_given_back_job_is_the_next_of_its_author(serve: Serve, store_url: str) -> None:
    limits = limits_of(1)
    service = await serve(limits=limits, workers=0)
    await backlog(service, "alice", 3)
    async with engine_on(store_url, limits) as engine:
        first, *_ = await engine.workers.take()
        await engine.jobs.checkpoint(engine.store, first, keep=False)
        (again,) = await engine.workers.take()
        assert again.name == first.name


async def test_connections_are_lent_to_authors_in_turn() -> None:
    turns, store = Turns(), Store.at("redis://nowhere", Limits())
    turns.put(store)
    assert await turns.take("hog") is store
    order: list[str] = []

    async def call(author: str) -> None:
        lent = await turns.take(author)
        order.append(author)
        turns.put(lent)

    calls = [asyncio.create_task(call("hog")) for _ in range(5)]
    calls += [asyncio.create_task(call(name)) for name in ("a", "b", "a")]
    cancelled = asyncio.create_task(call("c"))
    await asyncio.sleep(0)
    cancelled.cancel()
    turns.put(store)
    await asyncio.gather(*calls)
    assert order == ["hog", "a", "b", "hog", "a", "hog", "hog", "hog"]
    assert await turns.take("d") is store


async def test_connection_is_not_lost_with_who_waited_for_it() -> None:
    """Also if both happen at once: it is lent, and its borrower is cancelled."""
    turns, store = Turns(), Store.at("redis://nowhere", Limits())
    turns.put(store)
    await turns.take("a")
    waiting = asyncio.create_task(turns.take("b"))
    await asyncio.sleep(0)
    turns.put(store)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await turns.take("c") is store
