"""Jobs and workers: what is published is delivered, by whoever is alive."""

import asyncio
from typing import Any

import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    DiscardDeadLettersRequest,
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
    JobKind,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from activityfeed.v1.activity_pb2 import Audience
from activityfeed.v1.activity_service_pb2 import DeliveryState

from feedsvc.config import Limits
from feedsvc.core import keys, worker
from feedsvc.core.engine import Engine
from feedsvc.core.job import Job, Kind
from feedsvc.core.jobs import JobLost
from feedsvc.core.store import Store
from feedsvc.errors import StoreUnavailable
from tests.letters import plant
from tests.serving import Serve, Service, ids_of, refused, until

DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED
QUEUED = DeliveryState.DELIVERY_STATE_QUEUED
FAILED = DeliveryState.DELIVERY_STATE_FAILED

NAMES = [f"f{number}" for number in range(60)]
#: A few followers in each call, most of them left to workers.
LIMITS = Limits(push_chunk=3, inline_audience=5, job_lease=1)


async def crowd(service: Service, author: str = "alice") -> None:
    """Sixty followers; every second one's feed is warm."""
    await service.follow_all([(name, author) for name in NAMES])
    await service.warm(*NAMES[::2])


async def status(service: Service) -> GetFanoutStatusResponse:
    return await service.admin.GetFanoutStatus(GetFanoutStatusRequest())


async def all_have(service: Service, *wanted: str) -> None:
    for name in NAMES:
        assert await service.feed(name) == [*wanted]
        assert not (await service.verify(name)).differences


@pytest.mark.every_store
async def test_large_audience_is_left_to_workers(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await crowd(service)
    published = await service.publish("alice")
    assert published.delivery.state == QUEUED
    assert published.delivery.audience_count == 60
    posted = published.activity.id

    async def over() -> bool:
        return (await service.delivery(posted)).state == DELIVERED

    await until(over)
    found = await service.delivery(posted)
    assert (found.delivered_count, found.skipped_cold_count, found.audience_count) == (30, 30, 60)
    await all_have(service, posted)


@pytest.mark.every_store
async def test_publisher_may_wait(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await crowd(service)
    published = await service.publish("alice", wait=True)
    delivery = published.delivery
    assert delivery.state == DELIVERED
    assert (delivery.delivered_count, delivery.skipped_cold_count, delivery.audience_count) == (
        30,
        30,
        60,
    )
    for name in NAMES[::2]:
        assert (await service.stats(name)).entry_count == 1


async def test_small_audience_is_reached_before_the_answer(serve: Serve) -> None:
    """Also without any worker; no job is left."""
    service = await serve(limits=Limits(), workers=0)
    await service.follow("bob", "alice")
    await service.warm("bob")
    published = await service.publish("alice", to=["repo:x"])
    assert published.delivery.state == DELIVERED
    assert (await service.stats("bob")).entry_count == 1
    found = await status(service)
    assert (found.open_count, found.inline_count, found.dead_letter_count) == (0, 0, 0)
    assert not found.HasField("oldest")


async def test_without_a_worker_the_job_waits(serve: Serve) -> None:
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    posted = await service.post("alice", to=["repo:x"])
    await asyncio.sleep(0.1)
    found = await status(service)
    assert (found.open_count, found.waiting_count, found.running_count) == (1, 1, 0)
    assert found.oldest.kind == JobKind.JOB_KIND_DELIVER
    assert (found.oldest.activity_id, found.oldest.actor) == (posted, "alice")
    assert list(found.oldest.to) == ["repo:x"]
    assert found.lag.ToMilliseconds() >= 100
    assert (await service.delivery(posted)).state == QUEUED
    other = await serve(limits=LIMITS)
    await other.at_rest()
    await all_have(service, posted)
    found = await status(service)
    assert (found.open_count, found.lag.ToMilliseconds()) == (0, 0)


async def engine_on(url: str, limits: Limits = LIMITS) -> Engine:
    store = Store.at(url, limits)
    await store.open()
    return Engine.on(store)


@pytest.mark.every_store
async def test_job_of_a_dead_worker_is_taken_over(serve: Serve, store_url: str) -> None:
    """Not before its lease has run out, and from where it was noted."""
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    dead, other = await engine_on(store_url), await engine_on(store_url)
    (taken,) = await dead.workers.take()
    assert taken.job.subject == int(posted)
    assert await other.workers.work() == 0
    found = await status(service)
    assert (found.waiting_count, found.running_count) == (0, 1)
    taken.progress.seen += 7
    taken.progress.positions["push nobody"] = {0: "1"}
    await dead.jobs.checkpoint(dead.store, taken)
    await asyncio.sleep(1.1)
    (again,) = await other.workers.take()
    assert again.progress.positions == taken.progress.positions
    assert again.progress.seen == taken.progress.seen
    with pytest.raises(JobLost):
        await dead.jobs.checkpoint(dead.store, taken)
    with pytest.raises(JobLost):
        await dead.jobs.finish(dead.store, taken, "delivered")
    await other.workers.do(again)
    await all_have(service, posted)
    for engine in (dead, other):
        await engine.store.close()


@pytest.mark.parametrize("shards", [1, 8])
async def test_what_nobody_follows_is_delivered_at_once(serve: Serve, shards: int) -> None:
    service = await serve(limits=Limits(shards=shards), workers=0)
    for _ in range(2):  # how many were reached the first time is remembered
        topic = await service.publish("alice", to=["topic"], audience=Audience.AUDIENCE_TO_ONLY)
        own = await service.publish("alice", to=["alice"])
        assert {one.delivery.state for one in (topic, own)} == {DELIVERED}
        assert (await service.outbox("topic"))[0] == topic.activity.id


async def test_delete_does_not_make_the_next_push_cheap(serve: Serve) -> None:
    """A delete reaches live followers only: it does not tell how many there are."""
    service = await serve(limits=Limits(shards=1))
    await service.follow_all([(f"f{number}", "alice") for number in range(30)])
    sizes = service.server.engine.fanout._sizes
    posted = await service.post("alice")
    assert sizes.expected("alice", 1, 1, 500) == 30
    await service.delete(posted, "alice")
    assert sizes.expected("alice", 1, 1, 500) == 30


@pytest.mark.every_store
async def test_stopped_worker_leaves_its_jobs_at_once(serve: Serve, store_url: str) -> None:
    service = await serve(limits=Limits(push_chunk=3, inline_audience=5), workers=0)
    await crowd(service)
    posted = await service.post("alice")
    first, second = await engine_on(store_url), await engine_on(store_url)
    (taken,) = await first.workers.take()
    doing = asyncio.create_task(first.workers.do(taken))
    await asyncio.sleep(0)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert await second.workers.work() == 1
    await all_have(service, posted)
    for engine in (first, second):
        await engine.store.close()


async def test_jobs_left_before_the_clock_was_set_back(serve: Serve, store_url: str) -> None:
    """A deadline further ahead than anybody sets it is none."""
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    dead, other = await engine_on(store_url), await engine_on(store_url)
    assert len(await dead.workers.take()) == 1
    tag = service.tag("alice")
    (name,) = await service.store.zrange(f"{tag}r", 0, -1)
    await service.store.zincrby(f"{tag}r", 3_600_000, name)
    assert await other.workers.work() == 1
    await all_have(service, posted)
    await service.store.zadd(f"{tag}d", {f"+{posted}\0alice": 9e12})
    assert await other.workers.work() == 1
    for engine in (dead, other):
        await engine.store.close()


async def dead_letters(service: Service, **query: Any) -> Any:
    return await service.admin.ListDeadLetters(ListDeadLettersRequest(**query))


@pytest.mark.every_store
async def test_job_that_keeps_failing_is_set_aside(serve: Serve) -> None:
    """It reaches all others before; replayed after the repair it reaches the rest."""
    limits = Limits(push_chunk=3, inline_audience=5, job_lease=1, job_tries=3)
    service = await serve(limits=limits)
    await crowd(service)
    broken = NAMES[40]
    feed = keys.feed(service.tag(broken), broken)
    await service.store.set(feed, "not a list")
    posted = await service.post("alice", request_id="r")

    async def aside() -> bool:
        return bool((await status(service)).dead_letter_count)

    await until(aside)
    found = await status(service)
    assert (found.open_count, found.dead_letter_count) == (0, 1)
    assert (await service.delivery(posted)).state == FAILED
    again = await service.publish("alice", request_id="r")
    assert again.delivery.state == FAILED
    (letter,) = (await dead_letters(service)).dead_letters
    assert letter.job.activity_id == posted
    assert letter.job.actor == "alice"
    assert letter.job.attempt_count == 3
    assert "WRONGTYPE" in letter.error
    shard = service.tag(broken)
    for name in NAMES[::2]:
        if service.tag(name) != shard:
            assert (await service.stats(name)).entry_count == 1
    await service.store.delete(feed)
    answer = await service.admin.ReplayDeadLetters(
        ReplayDeadLettersRequest(ids=[letter.id, "0-1-0"])
    )
    assert [one.status.code for one in answer.results] == [0, 5]
    await service.at_rest()
    assert not (await dead_letters(service)).dead_letters
    assert (await service.delivery(posted)).state == DELIVERED
    await all_have(service, posted)


@pytest.mark.parametrize("way", [">", "<"])
async def test_entity_whose_flip_is_discarded_can_be_flipped_again(
    service: Service, way: str
) -> None:
    """Until then it is pushed to its followers, as in both modes on the way."""
    (letter,) = await plant(service, 1, Job(Kind.FLIP, 17, "star"))
    entity = keys.edges(service.tag("star"), "star")
    await service.store.hset(entity, keys.MODE, f"{way}17")
    await service.admin.DiscardDeadLetters(DiscardDeadLettersRequest(ids=[letter]))
    assert await service.store.hget(entity, keys.MODE) == b"U17"


async def test_worker_that_dies_of_a_job_does_not_take_the_others_along(
    serve: Serve, store_url: str
) -> None:
    """A job that was taken too often without getting on is set aside unseen."""
    limits = Limits(push_chunk=3, inline_audience=5, job_lease=1, job_tries=2)
    service = await serve(limits=limits, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    engine = await engine_on(store_url, limits)
    for _ in range(2):
        assert len(await engine.workers.take(everything=True)) == 1
    assert not await engine.workers.take(everything=True)
    (letter,) = (await dead_letters(service)).dead_letters
    assert letter.job.activity_id == posted
    await engine.store.close()


async def test_dead_letters_are_paged(serve: Serve, store_url: str) -> None:
    limits = Limits(push_chunk=3, inline_audience=1, job_lease=1, job_tries=1)
    service = await serve(limits=limits, workers=0)
    authors = [f"a{number}" for number in range(7)]
    await service.follow_all([(f, a) for a in authors for f in NAMES[:20]])
    posted = {await service.post(author) for author in authors}
    engine = await engine_on(store_url, limits)
    while await engine.workers.take(everything=True):
        pass
    found, token = [], ""
    while True:
        page = await dead_letters(service, page_size=2, page_token=token)
        assert len(page.dead_letters) <= 2
        found += [one.job.activity_id for one in page.dead_letters]
        token = page.next_page_token
        if not token:
            break
    assert len(found) == 7
    assert set(found) == posted
    await engine.store.close()


@pytest.mark.every_store
async def test_too_many_waiting_jobs_push_back(serve: Serve, store_url: str) -> None:
    """Nothing is published then, deletes go on, and whoever asks again gets his answer."""
    limits = Limits(shards=1, push_chunk=3, inline_audience=1, max_jobs=6)
    service = await serve(limits=limits, workers=0)
    await service.follow_all([(name, "alice") for name in NAMES[:9]])
    posted = [await service.post("alice", request_id=f"r{number}") for number in range(3)]
    refusal = await refused(service.publish("alice", request_id="r3"))
    assert refusal.reason == "FANOUT_OVERLOADED"
    assert refusal.retry_ms
    assert await service.outbox("alice") == posted[::-1]
    again = await service.publish("alice", request_id="r2")
    assert (again.activity.id, again.delivery.state) == (posted[2], QUEUED)
    lonely = await service.publish("nobody")
    assert lonely.delivery.state == DELIVERED
    await service.delete(posted[0], "alice")
    engine = await engine_on(store_url, limits)
    await engine.workers.work()
    last = await service.post("alice", request_id="r3")
    await engine.workers.work()
    assert await service.feed(NAMES[0]) == [last, *posted[:0:-1]]
    await engine.store.close()


@pytest.mark.every_store
async def test_retry_goes_on_with_what_a_dead_process_began(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(workers=0)
    await crowd(service)

    async def dies(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as here:
        here.setattr(service.server.engine.fanout, "inline", dies)
        await refused(service.publish("alice", request_id="r", to=["repo:x"]))
    assert (await status(service)).inline_count == 1
    published = await service.publish("alice", request_id="r", to=["repo:x"])
    assert published.already_published
    assert (published.delivery.state, published.delivery.delivered_count) == (DELIVERED, 30)
    assert (await status(service)).inline_count == 0
    assert await service.outbox("repo:x") == [published.activity.id]


@pytest.mark.every_store
async def test_dead_process_left_outboxes_and_followers(serve: Serve) -> None:
    """What was published `to` others gets there without anybody asking again."""
    service = await serve(limits=LIMITS)
    await service.follow("bob", "repo:x")
    await service.warm("bob", "repo:x")
    engine = service.server.engine
    inline = engine.fanout.inline

    async def dies(*_: object) -> None:
        raise RuntimeError

    object.__setattr__(engine.fanout, "inline", dies)
    await refused(service.publish("alice", to=["repo:x"]))
    object.__setattr__(engine.fanout, "inline", inline)
    (posted,) = await service.outbox("alice")

    async def there() -> bool:
        return ids_of(await service.page("bob")) == [posted]

    await until(there)
    assert await service.outbox("repo:x") == [posted]
    assert await service.feed("repo:x") == [posted]


async def test_deleted_before_its_delivery(serve: Serve, store_url: str) -> None:
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    await service.delete(posted, "alice")
    engine = await engine_on(store_url)
    await engine.workers.work()
    await all_have(service)
    assert (await refused(service.delivery(posted))).reason == "ACTIVITY_NOT_FOUND"
    await engine.store.close()


async def test_rate_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last whole minute: what is counted now shows in ten seconds at the latest."""
    service = await serve(limits=LIMITS)
    await crowd(service)
    await service.publish("alice", wait=True)
    counts = [int(await service.store.get(key)) for key in await service.store.keys("*}y:*")]
    assert 40 <= sum(counts) < 60  # all but those that the publish reached itself
    (bucket,) = {key.split(b":")[1] for key in await service.store.keys("*}y:*")}
    tag = service.tag("alice")
    await service.store.rename(f"{tag}y:{bucket.decode()}", f"{tag}y:{int(bucket) - 1}")
    assert (await status(service)).followers_per_second == pytest.approx(sum(counts) / 60)


async def test_store_that_is_away_for_a_moment(
    serve: Serve, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gets no answer has not done its job; it leaves it, and it is done."""
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    engine = await engine_on(store_url)
    script = engine.store.script
    answers = 0

    async def away(name: str, *arguments: Any, **rest: Any) -> Any:
        nonlocal answers
        if name == "push":
            answers += 1
            if answers > 2:
                raise StoreUnavailable("the store is not available")
        return await script(name, *arguments, **rest)

    with monkeypatch.context() as here:
        here.setattr(engine.store, "script", away)
        (taken,) = await engine.workers.take()
        await engine.workers.do(taken)
    assert answers > 2
    assert (await status(service)).open_count == 1
    assert await engine.workers.work() == 1
    await all_have(service, posted)
    assert (await status(service)).dead_letter_count == 0
    await engine.store.close()


async def tries_of(service: Service, author: str) -> list[int]:
    """How often each job of a shard has failed, as its queue counts it."""
    tag = service.tag(author)
    names = [name.decode() for name in await service.store.zrange(f"{tag}j", 0, -1)]
    return [int(await service.store.hget(f"{tag}k:{name}", "tries")) for name in names]


async def test_waiting_for_the_store_is_no_failure(
    serve: Serve, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a worker gives a job back because the store is away."""
    limits = Limits(push_chunk=3, inline_audience=5, job_lease=1, job_tries=2)
    service = await serve(limits=limits, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    engine = await engine_on(store_url, limits)
    script = engine.store.script
    away_for = 0

    async def away(name: str, *arguments: Any, **rest: Any) -> Any:
        nonlocal away_for
        if name == "push":
            away_for = 2
        if name == "push" or (away_for and name == "job_checkpoint"):
            away_for -= name == "job_checkpoint"
            raise StoreUnavailable("the store is not available")
        return await script(name, *arguments, **rest)

    monkeypatch.setattr(worker, "TRY_AGAIN_SECONDS", 0.01)
    with monkeypatch.context() as here:
        here.setattr(engine.store, "script", away)
        for _ in range(5):
            (taken,) = await engine.workers.take()
            await engine.workers.do(taken)
            assert await tries_of(service, "alice") == [0]
    assert await engine.workers.work() == 1
    await all_have(service, posted)
    assert (await status(service)).dead_letter_count == 0
    await engine.store.close()


async def expire_leases(service: Service, author: str) -> None:
    tag = service.tag(author)
    for name in await service.store.zrange(f"{tag}r", 0, -1):
        await service.store.zadd(f"{tag}r", {name: 1})


async def test_worker_that_was_only_cut_off_says_so(serve: Serve, store_url: str) -> None:
    """The takeover counts as a failure of the job, until the worker finds that it lost the job."""
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    posted = await service.post("alice")
    cut_off, other = await engine_on(store_url), await engine_on(store_url)
    (taken,) = await cut_off.workers.take()
    await expire_leases(service, "alice")
    (again,) = await other.workers.take()
    assert await tries_of(service, "alice") == [1]
    await cut_off.workers._leave(taken)
    assert await tries_of(service, "alice") == [0]
    await cut_off.workers._leave(taken)
    assert await tries_of(service, "alice") == [0]
    await other.workers.do(again)
    await all_have(service, posted)
    for engine in (cut_off, other):
        await engine.store.close()


async def test_leases_that_ran_out_while_the_store_was_away(serve: Serve, store_url: str) -> None:
    """No worker could prolong them: whoever was cut off as well holds them against no job."""
    service = await serve(limits=LIMITS, workers=0)
    await crowd(service)
    await service.post("alice")
    first, other = await engine_on(store_url), await engine_on(store_url)
    await first.workers.take()
    await expire_leases(service, "alice")
    other.workers._note_away()
    assert len(await other.workers.take()) == 1
    assert await tries_of(service, "alice") == [0]
    await expire_leases(service, "alice")
    assert len(await first.workers.take()) == 1
    assert await tries_of(service, "alice") == [1]
    for engine in (first, other):
        await engine.store.close()


async def test_scripts_are_flushed_again_and_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the answer that one is missing and its repetition."""
    store = service.server.engine.store
    call = store.call

    def flushed(*command: Any, **rest: Any) -> Any:
        if command[0] != "SCRIPT":
            call("SCRIPT", "FLUSH")
        return call(*command, **rest)

    monkeypatch.setattr(store, "call", flushed)
    await service.follow("bob", "alice")
    posted = await service.post("alice")
    assert await service.feed("bob") == [posted]
