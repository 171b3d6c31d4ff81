"""Queues are fair: to shards, to authors, and to jobs that dead processes left behind."""

import asyncio
from collections import Counter
from collections.abc import Callable

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import GetFanoutStatusRequest

from feedsvc.config import Limits
from feedsvc.core import ids, worker
from feedsvc.core.jobs import TakenJob
from feedsvc.core.store import Store
from feedsvc.core.turns import Turns
from tests.serving import Serve, Service, open_engine, refusal_of, wait_until

#: Followers of one shard, so that no single call reaches all of them.
FANS = [name for name in map("fan{}".format, range(5_000)) if ids.shard_for(name, 256) == 0][:6]


def limits_of(shards: int) -> Limits:
    """Return limits under which workers deliver to nearly all followers."""
    return Limits(shards=shards, push_chunk=2, inline_audience=1)


def author_in(shard: int, shards: int, name: str = "author") -> str:
    """Return an entity of a shard."""
    return next(
        entity
        for number in range(100_000)
        if ids.shard_for(entity := f"{name}{number}", shards) == shard
    )


async def make_backlog(service: Service, author: str, count: int) -> None:
    """Publish as often as `count` to followers whom only workers deliver to."""
    await service.follow_all([(fan, author) for fan in FANS])
    await service.post_many(author, count)


def authors(taken: list[TakenJob]) -> list[str]:
    return [job.job.author for job in taken]


@pytest.mark.every_store
@pytest.mark.parametrize("shards", [16, 256])
@pytest.mark.parametrize("victims_shard", ["below", "same", "above"])
async def test_backlog_of_one_author_does_not_delay_another(
    serve: Serve, store_url: str, monkeypatch: pytest.MonkeyPatch, shards: int, victims_shard: str
) -> None:
    """The shard of each author makes no difference, though a look takes few of very many jobs."""
    limits = limits_of(shards)
    middle = shards // 2
    hog = author_in(middle, shards, "hog")
    victim_shards = {"below": 0, "same": middle, "above": shards - 1}
    victim = author_in(victim_shards[victims_shard], shards, "victim")
    service = await serve(limits=limits, workers=0)
    await make_backlog(service, hog, 60)
    await make_backlog(service, victim, 1)
    monkeypatch.setattr(worker, "JOBS_AT_ONCE", 2)
    # A worker that knows of no job looks at 16 shards at a time, in turn.
    looks = shards // worker.LOOK_SHARDS
    async with open_engine(store_url, limits) as engine:
        taken_authors: list[str] = []
        for _ in range(looks + 2):
            taken_authors += authors(await engine.workers.take(engine.workers.next_shards()))
    assert victim in taken_authors
    assert hog in taken_authors


async def test_shards_take_turns(serve: Serve, store_url: str) -> None:
    """Workers take jobs from each of many backlogs in turn."""
    limits = limits_of(16)
    hogs = [author_in(shard, 16, "hog") for shard in range(0, 16, 3)]
    service = await serve(limits=limits, workers=0)
    for hog in hogs:
        await make_backlog(service, hog, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "JOBS_AT_ONCE", 1)
        async with open_engine(store_url, limits) as engine:
            taken_authors: list[str] = []
            for _ in range(4 * len(hogs)):
                taken_authors += authors(await engine.workers.take(engine.workers.next_shards()))
    assert Counter(taken_authors) == dict.fromkeys(hogs, 4)


async def test_authors_of_a_shard_take_turns(serve: Serve, store_url: str) -> None:
    limits = limits_of(1)
    service = await serve(limits=limits, workers=0)
    await make_backlog(service, "hog", 20)
    for author in ("a", "b", "c"):
        await make_backlog(service, author, 2)
    async with open_engine(store_url, limits) as engine:
        taken_authors = authors(await engine.workers.take())
    assert taken_authors[:8] == ["hog", "a", "b", "c", "hog", "a", "b", "c"]
    assert taken_authors[8:] == ["hog"] * (worker.JOBS_OF_AN_AUTHOR - 2)


async def test_author_occupies_no_more_than_a_share_of_a_process(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While jobs of a backlog hang, the process still takes another author's job.

    The process takes the backlog's next job when one of the hanging jobs ends.
    """
    limits = limits_of(16)
    service = await serve(limits=limits, workers=0)
    workers = service.server.engine.workers
    job_ends: list[asyncio.Event] = []
    begun_authors: list[str] = []

    async def hang(taken: TakenJob) -> None:
        begun_authors.append(taken.job.author)
        job_ends.append(asyncio.Event())
        await job_ends[-1].wait()

    monkeypatch.setattr(workers, "do", hang)
    await make_backlog(service, "hog", 30)
    workers.start(1)
    share = worker.JOBS_OF_AN_AUTHOR
    await until_true(lambda: len(begun_authors) == share)
    await make_backlog(service, "victim", 1)
    await until_true(lambda: "victim" in begun_authors)
    assert Counter(begun_authors) == {"hog": share, "victim": 1}
    job_ends[0].set()
    await until_true(lambda: len(begun_authors) == share + 2)
    assert Counter(begun_authors) == {"hog": share + 1, "victim": 1}
    await workers.close()


async def until_true(condition: Callable[[], bool]) -> None:
    async def check() -> bool:
        return condition()

    await wait_until(check)


@pytest.mark.every_store
async def test_backlog_does_not_delay_takeover_of_abandoned_jobs(
    serve: Serve, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look takes the jobs that dead processes left in `d` and in `r`."""
    limits = limits_of(16)
    hog, inline, leased = (author_in(shard, 16) for shard in (0, 9, 13))
    service = await serve(limits=limits, workers=0)
    for author in (inline, leased):
        await service.follow_all([(fan, author) for fan in FANS])
    monkeypatch.setattr(worker, "JOBS_AT_ONCE", 4)
    async with open_engine(store_url, limits) as dead, open_engine(store_url, limits) as engine:
        await service.post(leased)
        assert authors(await dead.workers.take()) == [leased]
        posted = await service.post(inline)
        (taken,) = await dead.workers.take()
        await dead.jobs.finish(dead.store, taken, "delivered")
        (name,) = await service.store.zrange(f"{service.tag(leased)}r", 0, -1)
        await service.store.zadd(f"{service.tag(leased)}r", {name: 1})
        await service.store.zadd(f"{service.tag(inline)}d", {f"+{posted}\0{inline}": 1})
        await make_backlog(service, hog, 60)
        taken_authors = authors(await engine.workers.take(engine.workers.next_shards()))
    assert {hog, inline, leased} == set(taken_authors)


@pytest.mark.every_store
async def test_author_leaves_room_for_others_in_a_full_queue(serve: Serve, store_url: str) -> None:
    """An author may have as many waiting jobs as the queue has free places."""
    limits = Limits(shards=1, push_chunk=2, inline_audience=1, max_jobs=12)
    service = await serve(limits=limits, workers=0)
    for author in ("hog", "second", "victim"):
        await service.follow_all([(fan, author) for fan in FANS])

    async def fill(author: str) -> int:
        """Publish until the service refuses; return the number of jobs."""
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
    async with open_engine(store_url, limits) as engine:
        assert await engine.workers.work() == 10
    assert await fill("hog") == 6


async def test_job_that_is_given_back_is_the_next_of_its_author(
    serve: Serve, store_url: str
) -> None:
    limits = limits_of(1)
    service = await serve(limits=limits, workers=0)
    await make_backlog(service, "alice", 3)
    async with open_engine(store_url, limits) as engine:
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
        connection = await turns.take(author)
        order.append(author)
        turns.put(connection)

    calls = [asyncio.create_task(call("hog")) for _ in range(5)]
    calls += [asyncio.create_task(call(name)) for name in ("a", "b", "a")]
    cancelled = asyncio.create_task(call("c"))
    await asyncio.sleep(0)
    cancelled.cancel()
    turns.put(store)
    await asyncio.gather(*calls)
    assert order == ["hog", "a", "b", "hog", "a", "hog", "hog", "hog"]
    assert await turns.take("d") is store


async def test_connection_is_not_lost_with_a_cancelled_borrower() -> None:
    """The borrower is cancelled at the moment when the connection is lent."""
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
