"""Jobs and workers: every published activity is delivered, by any process that is alive."""

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
from activityfeed.v1.activity_service_pb2 import Delivery, DeliveryState

from feedsvc.config import Limits
from feedsvc.core import keys, worker
from feedsvc.core.job import Job, Kind
from feedsvc.core.jobs import JobLost
from feedsvc.errors import StoreUnavailable
from tests.dead_letters import store_dead_letters
from tests.delivery.conftest import OpenEngine
from tests.serving import Serve, Service, expect_refusal, ids_on_page, wait_until

DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED
QUEUED = DeliveryState.DELIVERY_STATE_QUEUED
FAILED = DeliveryState.DELIVERY_STATE_FAILED

NAMES = [f"f{number}" for number in range(60)]
#: Each call delivers to a few followers; workers deliver to most of them.
LIMITS = Limits(push_chunk=3, inline_audience=5, job_lease=1)


async def add_followers(service: Service, author: str = "alice") -> None:
    """Add sixty followers; every second follower's feed is warm."""
    await service.follow_all([(name, author) for name in NAMES])
    await service.warm(*NAMES[::2])


async def status(service: Service) -> GetFanoutStatusResponse:
    return await service.admin.GetFanoutStatus(GetFanoutStatusRequest())


def assert_counts(delivery: Delivery) -> None:
    """Check what a delivery to the sixty followers reports."""
    assert delivery.delivered_count == 30
    assert delivery.skipped_cold_count == 30
    assert delivery.audience_count == 60


async def assert_all_have(service: Service, *activity_ids: str) -> None:
    for name in NAMES:
        assert await service.feed(name) == [*activity_ids]
        assert not (await service.verify(name)).differences


@pytest.mark.every_store
async def test_workers_deliver_to_a_large_audience(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await add_followers(service)
    published = await service.publish("alice")
    assert published.delivery.state == QUEUED
    assert published.delivery.audience_count == 60
    posted = published.activity.id

    async def is_delivered() -> bool:
        return (await service.delivery(posted)).state == DELIVERED

    await wait_until(is_delivered)
    assert_counts(await service.delivery(posted))
    await assert_all_have(service, posted)


@pytest.mark.every_store
async def test_publisher_may_wait_for_the_delivery(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await add_followers(service)
    published = await service.publish("alice", wait=True)
    assert published.delivery.state == DELIVERED
    assert_counts(published.delivery)
    for name in NAMES[::2]:
        assert (await service.stats(name)).entry_count == 1


async def test_small_audience_has_the_activity_before_the_publish_answers(serve: Serve) -> None:
    """No worker is needed, and no job remains."""
    service = await serve(limits=Limits(), workers=0)
    await service.follow("bob", "alice")
    await service.warm("bob")
    published = await service.publish("alice", to=["repo:x"])
    assert published.delivery.state == DELIVERED
    assert (await service.stats("bob")).entry_count == 1
    fanout = await status(service)
    assert (fanout.open_count, fanout.inline_count, fanout.dead_letter_count) == (0, 0, 0)
    assert not fanout.HasField("oldest")


async def test_job_waits_until_a_worker_starts(serve: Serve) -> None:
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    posted = await service.post("alice", to=["repo:x"])
    await asyncio.sleep(0.1)
    fanout = await status(service)
    assert (fanout.open_count, fanout.waiting_count, fanout.running_count) == (1, 1, 0)
    assert fanout.oldest.kind == JobKind.JOB_KIND_DELIVER
    assert (fanout.oldest.activity_id, fanout.oldest.actor) == (posted, "alice")
    assert list(fanout.oldest.to) == ["repo:x"]
    assert fanout.lag.ToMilliseconds() >= 100
    assert (await service.delivery(posted)).state == QUEUED
    other = await serve(limits=LIMITS)
    await other.wait_for_deliveries()
    await assert_all_have(service, posted)
    fanout = await status(service)
    assert (fanout.open_count, fanout.lag.ToMilliseconds()) == (0, 0)


@pytest.mark.every_store
async def test_job_of_a_dead_worker_is_taken_over_at_its_checkpoint(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """The takeover waits for the end of the lease, and resumes at the checkpoint."""
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    dead, other = await open_engine(LIMITS), await open_engine(LIMITS)
    (taken,) = await dead.workers.take()
    assert taken.job.subject == int(posted)
    assert await other.workers.work() == 0
    fanout = await status(service)
    assert (fanout.waiting_count, fanout.running_count) == (0, 1)
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
    await assert_all_have(service, posted)


@pytest.mark.parametrize("shards", [1, 8])
async def test_activity_without_followers_is_delivered_at_once(serve: Serve, shards: int) -> None:
    service = await serve(limits=Limits(shards=shards), workers=0)
    for _ in range(2):  # the second publish expects the audience that the first one reached
        topic = await service.publish("alice", to=["topic"], audience=Audience.AUDIENCE_TO_ONLY)
        own = await service.publish("alice", to=["alice"])
        assert {published.delivery.state for published in (topic, own)} == {DELIVERED}
        assert (await service.outbox("topic"))[0] == topic.activity.id


async def test_delete_does_not_change_the_expected_cost_of_a_push(serve: Serve) -> None:
    """A delete reaches live followers only, so it does not show the size of the audience."""
    service = await serve(limits=Limits(shards=1))
    await service.follow_all([(f"f{number}", "alice") for number in range(30)])
    sizes = service.server.engine.fanout._sizes
    posted = await service.post("alice")
    assert sizes.expected("alice", 1, 1, 500) == 30
    await service.delete(posted, "alice")
    assert sizes.expected("alice", 1, 1, 500) == 30


@pytest.mark.every_store
async def test_stopped_worker_gives_its_jobs_back_at_once(
    serve: Serve, open_engine: OpenEngine
) -> None:
    service = await serve(limits=Limits(push_chunk=3, inline_audience=5), workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    first, second = await open_engine(LIMITS), await open_engine(LIMITS)
    (taken,) = await first.workers.take()
    delivering = asyncio.create_task(first.workers.do(taken))
    await asyncio.sleep(0)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert await second.workers.work() == 1
    await assert_all_have(service, posted)


async def test_jobs_from_before_the_clock_was_set_back_are_taken_over(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """Workers ignore a deadline that is further ahead than any process sets one."""
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    dead, other = await open_engine(LIMITS), await open_engine(LIMITS)
    assert len(await dead.workers.take()) == 1
    tag = service.tag("alice")
    (name,) = await service.store.zrange(f"{tag}r", 0, -1)
    await service.store.zincrby(f"{tag}r", 3_600_000, name)
    assert await other.workers.work() == 1
    await assert_all_have(service, posted)
    await service.store.zadd(f"{tag}d", {f"+{posted}\0alice": 9e12})
    assert await other.workers.work() == 1


async def dead_letters(service: Service, **query: Any) -> Any:
    return await service.admin.ListDeadLetters(ListDeadLettersRequest(**query))


@pytest.mark.every_store
async def test_job_that_keeps_failing_becomes_a_dead_letter(serve: Serve) -> None:
    """Before that it reaches all followers but the broken one; its replay reaches that one too."""
    limits = Limits(push_chunk=3, inline_audience=5, job_lease=1, job_tries=3)
    service = await serve(limits=limits)
    await add_followers(service)
    broken = NAMES[40]
    feed = keys.feed(service.tag(broken), broken)
    await service.store.set(feed, "not a list")
    posted = await service.post("alice", request_id="r")

    async def is_set_aside() -> bool:
        return bool((await status(service)).dead_letter_count)

    await wait_until(is_set_aside)
    fanout = await status(service)
    assert (fanout.open_count, fanout.dead_letter_count) == (0, 1)
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
    assert [result.status.code for result in answer.results] == [0, 5]
    await service.wait_for_deliveries()
    assert not (await dead_letters(service)).dead_letters
    assert (await service.delivery(posted)).state == DELIVERED
    await assert_all_have(service, posted)


@pytest.mark.parametrize("flipping_mode", [">", "<"])
async def test_entity_whose_flip_is_discarded_can_be_flipped_again(
    service: Service, flipping_mode: str
) -> None:
    """Until the next flip it stays in PUSH mode, as it is during a flip in either direction."""
    (letter,) = await store_dead_letters(service, 1, Job(Kind.FLIP, 17, "star"))
    entity = keys.edges(service.tag("star"), "star")
    await service.store.hset(entity, keys.MODE, f"{flipping_mode}17")
    await service.admin.DiscardDeadLetters(DiscardDeadLettersRequest(ids=[letter]))
    assert await service.store.hget(entity, keys.MODE) == b"U17"


async def test_job_that_kills_its_workers_becomes_a_dead_letter(
    serve: Serve, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that was taken too often without progress becomes a dead letter before its next try."""
    limits = Limits(push_chunk=3, inline_audience=5, job_lease=1, job_tries=2)
    service = await serve(limits=limits, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    engine = await open_engine(limits)
    for _ in range(2):
        assert len(await engine.workers.take(everything=True)) == 1
    assert not await engine.workers.take(everything=True)
    (letter,) = (await dead_letters(service)).dead_letters
    assert letter.job.activity_id == posted
    messages = [record.getMessage() for record in caplog.records if "jobs" in record.name]
    description = f"delivery of activity {posted} of alice"
    cause = "each process that tried it died or was cut off"
    action = f"Look at it: feedsvc dead-letters --show {letter.id}"
    assert messages == [
        f"dead letter {letter.id} after 2 failed attempts: {description}: {cause}. {action}"
    ]


async def test_dead_letters_are_paged(serve: Serve, open_engine: OpenEngine) -> None:
    limits = Limits(push_chunk=3, inline_audience=1, job_lease=1, job_tries=1)
    service = await serve(limits=limits, workers=0)
    authors = [f"a{number}" for number in range(7)]
    await service.follow_all([(f, a) for a in authors for f in NAMES[:20]])
    posted = {await service.post(author) for author in authors}
    engine = await open_engine(limits)
    while await engine.workers.take(everything=True):
        pass
    listed_ids, token = [], ""
    while True:
        page = await dead_letters(service, page_size=2, page_token=token)
        assert len(page.dead_letters) <= 2
        listed_ids += [letter.job.activity_id for letter in page.dead_letters]
        token = page.next_page_token
        if not token:
            break
    assert len(listed_ids) == 7
    assert set(listed_ids) == posted


@pytest.mark.every_store
async def test_full_queue_refuses_publishes(serve: Serve, open_engine: OpenEngine) -> None:
    """Publishes that need a job are refused. Deletes and repeated requests still work."""
    limits = Limits(shards=1, push_chunk=3, inline_audience=1, max_jobs=6)
    service = await serve(limits=limits, workers=0)
    await service.follow_all([(name, "alice") for name in NAMES[:9]])
    posted = [await service.post("alice", request_id=f"r{number}") for number in range(3)]
    refusal = await expect_refusal(service.publish("alice", request_id="r3"))
    assert refusal.reason == "FANOUT_OVERLOADED"
    assert refusal.retry_ms
    assert await service.outbox("alice") == posted[::-1]
    again = await service.publish("alice", request_id="r2")
    assert (again.activity.id, again.delivery.state) == (posted[2], QUEUED)
    lonely = await service.publish("nobody")
    assert lonely.delivery.state == DELIVERED
    await service.delete(posted[0], "alice")
    engine = await open_engine(limits)
    await engine.workers.work()
    last = await service.post("alice", request_id="r3")
    await engine.workers.work()
    assert await service.feed(NAMES[0]) == [last, *posted[:0:-1]]


@pytest.mark.every_store
async def test_retry_of_a_publish_completes_the_delivery_of_a_dead_process(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(workers=0)
    await add_followers(service)

    async def die(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(service.server.engine.fanout, "inline", die)
        await expect_refusal(service.publish("alice", request_id="r", to=["repo:x"]))
    assert (await status(service)).inline_count == 1
    published = await service.publish("alice", request_id="r", to=["repo:x"])
    assert published.already_published
    assert (published.delivery.state, published.delivery.delivered_count) == (DELIVERED, 30)
    assert (await status(service)).inline_count == 0
    assert await service.outbox("repo:x") == [published.activity.id]


@pytest.mark.every_store
async def test_workers_complete_the_delivery_of_a_dead_process(serve: Serve) -> None:
    """Workers deliver what was published `to` others; no retry is needed."""
    service = await serve(limits=LIMITS)
    await service.follow("bob", "repo:x")
    await service.warm("bob", "repo:x")
    engine = service.server.engine
    inline = engine.fanout.inline

    async def die(*_: object) -> None:
        raise RuntimeError

    object.__setattr__(engine.fanout, "inline", die)
    await expect_refusal(service.publish("alice", to=["repo:x"]))
    object.__setattr__(engine.fanout, "inline", inline)
    (posted,) = await service.outbox("alice")

    async def bob_has_it() -> bool:
        return ids_on_page(await service.page("bob")) == [posted]

    await wait_until(bob_has_it)
    assert await service.outbox("repo:x") == [posted]
    assert await service.feed("repo:x") == [posted]


async def test_activity_deleted_before_its_delivery_reaches_nobody(
    serve: Serve, open_engine: OpenEngine
) -> None:
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    await service.delete(posted, "alice")
    engine = await open_engine(LIMITS)
    await engine.workers.work()
    await assert_all_have(service)
    assert (await expect_refusal(service.delivery(posted))).reason == "ACTIVITY_NOT_FOUND"


async def test_status_shows_the_delivery_rate(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is that of the last whole minute; a delivery counts after ten seconds at most."""
    service = await serve(limits=LIMITS)
    await add_followers(service)
    await service.publish("alice", wait=True)
    counts = [int(await service.store.get(key)) for key in await service.store.keys("*}y:*")]
    assert 40 <= sum(counts) < 60  # all but the followers that the publish reached itself
    (bucket,) = {key.split(b":")[1] for key in await service.store.keys("*}y:*")}
    tag = service.tag("alice")
    await service.store.rename(f"{tag}y:{bucket.decode()}", f"{tag}y:{int(bucket) - 1}")
    assert (await status(service)).followers_per_second == pytest.approx(sum(counts) / 60)


async def test_delivery_survives_a_short_absence_of_the_store(
    serve: Serve, open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gets no answer gives the job back, and the next take delivers it."""
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    engine = await open_engine(LIMITS)
    script = engine.store.script
    pushes = 0

    async def script_with_failing_pushes(name: str, *arguments: Any, **options: Any) -> Any:
        nonlocal pushes
        if name == "push":
            pushes += 1
            if pushes > 2:
                raise StoreUnavailable("the store is not available")
        return await script(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(engine.store, "script", script_with_failing_pushes)
        (taken,) = await engine.workers.take()
        await engine.workers.do(taken)
    assert pushes > 2
    assert (await status(service)).open_count == 1
    assert await engine.workers.work() == 1
    await assert_all_have(service, posted)
    assert (await status(service)).dead_letter_count == 0


async def failure_counts(service: Service, author: str) -> list[int]:
    """Return for each job of the author's shard how often it failed, as its queue counts."""
    tag = service.tag(author)
    names = [name.decode() for name in await service.store.zrange(f"{tag}j", 0, -1)]
    return [int(await service.store.hget(f"{tag}k:{name}", "tries")) for name in names]


async def test_waiting_for_the_store_does_not_count_as_a_failure(
    serve: Serve, open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may give a job back any number of times because the store is away."""
    limits = Limits(push_chunk=3, inline_audience=5, job_lease=1, job_tries=2)
    service = await serve(limits=limits, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    engine = await open_engine(limits)
    script = engine.store.script
    failing_checkpoints = 0

    async def failing_script(name: str, *arguments: Any, **options: Any) -> Any:
        nonlocal failing_checkpoints
        if name == "push":
            failing_checkpoints = 2
        if name == "push" or (failing_checkpoints and name == "job_checkpoint"):
            failing_checkpoints -= name == "job_checkpoint"
            raise StoreUnavailable("the store is not available")
        return await script(name, *arguments, **options)

    monkeypatch.setattr(worker, "TRY_AGAIN_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(engine.store, "script", failing_script)
        for _ in range(5):
            (taken,) = await engine.workers.take()
            await engine.workers.do(taken)
            assert await failure_counts(service, "alice") == [0]
    assert await engine.workers.work() == 1
    await assert_all_have(service, posted)
    assert (await status(service)).dead_letter_count == 0


async def expire_leases(service: Service, author: str) -> None:
    tag = service.tag(author)
    for name in await service.store.zrange(f"{tag}r", 0, -1):
        await service.store.zadd(f"{tag}r", {name: 1})


async def test_worker_that_was_cut_off_takes_back_the_failure(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """The takeover counts as a failure of the job until the first worker learns that it lost it."""
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    posted = await service.post("alice")
    cut_off, other = await open_engine(LIMITS), await open_engine(LIMITS)
    (taken,) = await cut_off.workers.take()
    await expire_leases(service, "alice")
    (again,) = await other.workers.take()
    assert await failure_counts(service, "alice") == [1]
    await cut_off.workers._leave(taken)
    assert await failure_counts(service, "alice") == [0]
    await cut_off.workers._leave(taken)
    assert await failure_counts(service, "alice") == [0]
    await other.workers.do(again)
    await assert_all_have(service, posted)


async def test_lease_that_ran_out_while_the_store_was_away_is_no_failure(
    serve: Serve, open_engine: OpenEngine
) -> None:
    """No worker could prolong the leases, so a worker that was cut off too counts no failure."""
    service = await serve(limits=LIMITS, workers=0)
    await add_followers(service)
    await service.post("alice")
    first, other = await open_engine(LIMITS), await open_engine(LIMITS)
    await first.workers.take()
    await expire_leases(service, "alice")
    other.workers._note_away()
    assert len(await other.workers.take()) == 1
    assert await failure_counts(service, "alice") == [0]
    await expire_leases(service, "alice")
    assert len(await first.workers.take()) == 1
    assert await failure_counts(service, "alice") == [1]


async def test_service_works_while_scripts_are_flushed_all_the_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush may even come between the answer that a script is missing and the repeated call."""
    store = service.server.engine.store
    call = store.call

    def call_after_flush(*command: Any, **options: Any) -> Any:
        if command[0] != "SCRIPT":
            call("SCRIPT", "FLUSH")
        return call(*command, **options)

    monkeypatch.setattr(store, "call", call_after_flush)
    await service.follow("bob", "alice")
    posted = await service.post("alice")
    assert await service.feed("bob") == [posted]
