"""How far a delivery has come: what publishes answer, GetDelivery, and what operators are told."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    JOB_KIND_DELIVER,
    JOB_KIND_FLIP,
    JOB_KIND_RETRACT,
    DeadLetter,
    DiscardDeadLettersRequest,
    FanoutJob,
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity
from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_PULLED,
    DELIVERY_STATE_QUEUED,
    BatchPublishActivitiesRequest,
    Delivery,
    GetDeliveryRequest,
    PublishActivityRequest,
    PublishActivityResponse,
)

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.core.activities import Published
from feedsvc.core.job import Job, Kind
from tests.letters import ERROR, SINCE_MS, SUBJECT, plant
from tests.serving import Serve, Service, at_ms, ids_of, until

#: What goes to two followers is queued.
NARROW = Limits(inline_audience=1, push_chunk=1)
FOLLOWERS = [f"f{number}" for number in range(12)]


@pytest.fixture
async def idle(serve: Serve) -> Service:
    """A server without workers, and alice with her followers, of which two are warm."""
    service = await serve(limits=NARROW, workers=0)
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS[:2])
    return service


async def wait_for(
    service: Service, actor: str, seconds: float | None = None, **fields: Any
) -> PublishActivityResponse:
    """Publishes and waits for the delivery."""
    activity = Activity(actor=actor, verb="post", **fields)
    request = PublishActivityRequest(activity=activity, wait_for_delivery=True)
    return await service.activities.PublishActivity(request, timeout=seconds)


async def delivery(service: Service, activity_id: str) -> Delivery:
    request = GetDeliveryRequest(id=activity_id)
    return (await service.activities.GetDelivery(request)).delivery


async def status(service: Service) -> GetFanoutStatusResponse:
    return await service.admin.GetFanoutStatus(GetFanoutStatusRequest())


@pytest.mark.every_store
async def test_small_audience_is_served_before_the_answer(service: Service) -> None:
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS[:2])
    whole = Delivery(
        delivered_count=2,
        skipped_cold_count=10,
        state=DELIVERY_STATE_DELIVERED,
        audience_count=12,
    )
    published = await service.publish("alice", request_id="r")
    assert published.delivery == whole
    assert (await wait_for(service, "alice")).delivery == whole
    # Later it has the state alone.
    alone = Delivery(state=DELIVERY_STATE_DELIVERED)
    assert await delivery(service, published.activity.id) == alone
    assert (await service.publish("alice", request_id="r")).delivery == alone
    lonely = await service.publish("lonely")
    none = {"delivered_count": 0, "skipped_cold_count": 0, "audience_count": 0}
    assert lonely.delivery == Delivery(state=DELIVERY_STATE_DELIVERED, **none)
    only = await service.publish("bob", to=["alice"], audience=AUDIENCE_TO_ONLY)
    assert only.delivery == whole
    assert await delivery(service, only.activity.id) == alone


@pytest.mark.every_store
async def test_large_audience_is_queued_and_delivered(idle: Service, serve: Serve) -> None:
    published = await idle.publish("alice", request_id="r")
    assert (published.delivery.state, published.delivery.audience_count) == (
        DELIVERY_STATE_QUEUED,
        12,
    )
    again = await idle.publish("alice", request_id="r")
    for found in (again.delivery, await delivery(idle, published.activity.id)):
        assert (found.state, found.audience_count) == (DELIVERY_STATE_QUEUED, 12)
    assert await idle.feed("alice") == [published.activity.id]
    assert ids_of(await idle.page(FOLLOWERS[-1])) == [published.activity.id], "a cold feed has it"
    await serve(limits=NARROW, workers=2)

    async def delivered() -> bool:
        state = (await delivery(idle, published.activity.id)).state
        return state == DELIVERY_STATE_DELIVERED

    await until(delivered)
    found = await delivery(idle, published.activity.id)
    assert (found.delivered_count, found.skipped_cold_count, found.audience_count) == (2, 9, 12)
    again = await idle.publish("alice", request_id="r")
    assert (again.already_published, again.delivery) == (True, found)
    for name in FOLLOWERS[:2]:
        assert await idle.feed(name) == [published.activity.id]


@pytest.mark.every_store
async def test_publish_may_wait_for_its_delivery(serve: Serve) -> None:
    service = await serve(limits=NARROW, workers=2)
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS)
    published = await wait_for(service, "alice")
    whole = Delivery(
        delivered_count=12,
        skipped_cold_count=0,
        state=DELIVERY_STATE_DELIVERED,
        audience_count=12,
    )
    assert published.delivery == whole
    requests = [
        PublishActivityRequest(
            activity=Activity(actor="alice", verb="post"), wait_for_delivery=True
        )
        for _ in range(30)
    ]
    answer = await service.activities.BatchPublishActivities(
        BatchPublishActivitiesRequest(requests=requests)
    )
    assert [one.response.delivery for one in answer.results] == [whole] * 30
    newest = [one.response.activity.id for one in answer.results][::-1]
    assert await service.feed("f0") == [*newest, published.activity.id]


@pytest.mark.parametrize("seconds", [0.2, 0.5, 3.0])
async def test_waiting_ends_before_the_deadline(idle: Service, seconds: float) -> None:
    begun = time.monotonic()
    published = await wait_for(idle, "alice", seconds)
    assert published.delivery.state == DELIVERY_STATE_QUEUED
    assert 0.4 * seconds < time.monotonic() - begun < seconds


async def test_time_that_publishing_takes_is_not_waited_too(
    idle: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = idle.server.engine.activities
    publish = core._publish

    async def slow(*arguments: Any) -> Published:
        await asyncio.sleep(1)
        return await publish(*arguments)

    monkeypatch.setattr(core, "_publish", slow)
    published = await wait_for(idle, "alice", 3)
    assert published.delivery.state == DELIVERY_STATE_QUEUED


async def test_entries_of_a_batch_wait_at_the_same_time(idle: Service) -> None:
    request = PublishActivityRequest(
        activity=Activity(actor="alice", verb="post"), wait_for_delivery=True
    )
    batch = BatchPublishActivitiesRequest(requests=[request] * 50)
    begun = time.monotonic()
    answer = await idle.activities.BatchPublishActivities(batch, timeout=2)
    assert 1 < time.monotonic() - begun < 2
    states = {one.response.delivery.state for one in answer.results}
    assert states == {DELIVERY_STATE_QUEUED}


async def test_waiting_holds_up_nothing_else(idle: Service) -> None:
    waiting = asyncio.create_task(wait_for(idle, "alice", 5))

    async def queued() -> bool:
        return (await status(idle)).open_count > 0

    await until(queued)
    begun = time.monotonic()
    await idle.publish("alice")
    await idle.page("bob")
    assert time.monotonic() - begun < 1
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.every_store
async def test_deleted_while_it_was_delivered(idle: Service) -> None:
    published = await idle.publish("alice")
    await idle.delete(published.activity.id, "alice")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await delivery(idle, published.activity.id)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.every_store
async def test_followers_of_a_celebrity_read_for_themselves(serve: Serve) -> None:
    service = await serve(
        limits=Limits(inline_audience=1, push_chunk=1, celebrity_threshold=10), workers=2
    )
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS)

    async def pulled() -> bool:
        found = (await wait_for(service, "alice")).delivery
        return found.state == DELIVERY_STATE_PULLED and found.audience_count == 12

    await until(pulled)
    newest = (await service.outbox("alice"))[0]
    assert (await delivery(service, newest)).state == DELIVERY_STATE_PULLED
    for name in FOLLOWERS:
        assert (await service.feed(name))[0] == newest


# For operators.


@pytest.mark.every_store
async def test_status_of_a_service_at_rest(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.post("alice")
    found = await status(service)
    assert found == GetFanoutStatusResponse(lag=found.lag)
    assert found.lag.ToMilliseconds() == 0


@pytest.mark.every_store
async def test_status_tells_what_waits(idle: Service, serve: Serve) -> None:
    before = time.time_ns() // 1_000_000
    first = await idle.post("alice", to=["repo:x"])
    await idle.posts("alice", 2)
    await plant(idle, 4)

    async def behind() -> bool:
        return (await status(idle)).lag.ToMilliseconds() >= 50

    await until(behind)
    found = await status(idle)
    assert (found.open_count, found.waiting_count, found.running_count) == (3, 3, 0)
    assert (found.inline_count, found.dead_letter_count, found.followers_per_second) == (0, 4, 0)
    assert found.lag.ToMilliseconds() <= time.time_ns() // 1_000_000 - before
    oldest = found.oldest
    assert (oldest.kind, oldest.activity_id) == (JOB_KIND_DELIVER, first)
    assert (oldest.actor, list(oldest.to), oldest.attempt_count) == ("alice", ["repo:x"], 0)
    assert oldest.queue_time.ToMilliseconds() >= before
    await serve(limits=NARROW, workers=2)

    async def done() -> bool:
        return (await status(idle)).open_count == 0

    await until(done)
    found = await status(idle)
    assert (found.dead_letter_count, found.HasField("oldest")) == (4, False)
    assert found.lag.ToMilliseconds() == 0


async def letters(service: Service, size: int = 0) -> AsyncIterator[DeadLetter]:
    token = ""
    while True:
        page = await service.admin.ListDeadLetters(
            ListDeadLettersRequest(page_size=size, page_token=token)
        )
        for letter in page.dead_letters:
            yield letter
        token = page.next_page_token
        if not token:
            return


@pytest.mark.every_store
@pytest.mark.parametrize("size", [0, 1, 3, 7, 1_000])
async def test_dead_letters_are_listed_once_each(idle: Service, size: int) -> None:
    planted = await plant(idle, 21)
    assert [one.id async for one in letters(idle, size)] == planted


async def test_full_last_page_promises_no_next_one(idle: Service) -> None:
    await plant(idle, 6)
    page = await idle.admin.ListDeadLetters(ListDeadLettersRequest(page_size=6))
    assert (len(page.dead_letters), page.next_page_token) == (6, "")
    assert (await idle.admin.ListDeadLetters(ListDeadLettersRequest(page_size=5))).next_page_token


async def test_dead_letter_says_all_of_its_job(idle: Service) -> None:
    before = time.time_ns() // 1_000_000
    planted = await plant(
        idle,
        3,
        Job(Kind.DELIVER, SUBJECT, "", ("repo:x", "repo:y")),
        Job(Kind.RETRACT, SUBJECT + 1, "alice"),
        Job(Kind.FLIP, 17, "star"),
    )
    found = [one async for one in letters(idle)]
    assert [one.id for one in found] == planted
    assert sorted((one.job for one in found), key=lambda job: job.delivered_count) == [
        FanoutJob(
            kind=kind,
            activity_id=activity_id,
            actor=actor,
            to=to,
            queue_time=at_ms(SINCE_MS),
            delivered_count=number,
            skipped_cold_count=2,
            attempt_count=8,
        )
        for number, (kind, activity_id, actor, to) in enumerate(
            (
                (JOB_KIND_DELIVER, str(SUBJECT), "", ["repo:x", "repo:y"]),
                (JOB_KIND_RETRACT, str(SUBJECT + 1), "alice", []),
                (JOB_KIND_FLIP, "", "star", []),
            )
        )
    ]
    assert {one.error for one in found} == {ERROR}
    for one in found:
        assert before - 5 <= one.failure_time.ToMilliseconds() <= time.time_ns() // 1_000_000 + 5


@pytest.mark.every_store
async def test_failed_delivery_is_set_aside_and_replayed(idle: Service, serve: Serve) -> None:
    (broken, *warm) = FOLLOWERS[:2]
    key = keys.feed(idle.tag(broken), broken)
    await idle.store.set(key, "no list")
    published = await idle.publish("alice")
    other = await serve(limits=dataclasses.replace(NARROW, job_tries=2), workers=2)

    async def failed() -> bool:
        return (await delivery(idle, published.activity.id)).state == DELIVERY_STATE_FAILED

    await until(failed)
    found = await status(idle)
    assert (found.open_count, found.dead_letter_count) == (0, 1)
    (letter,) = [one async for one in letters(idle)]
    assert (letter.job.activity_id, letter.job.actor) == (published.activity.id, "alice")
    assert letter.job.attempt_count == 2
    assert "WRONGTYPE" in letter.error
    # The others have it: what fails for one shard goes on for the others.
    for name in warm:
        assert (await idle.stats(name)).entry_count == 1
    assert (await idle.publish("alice", external_id="e")).delivery.state == DELIVERY_STATE_QUEUED
    await other.stop()
    await idle.store.delete(key)
    await idle.warm(broken)
    answer = await idle.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=[letter.id]))
    assert answer.results[0].status.code == 0
    found_delivery = await delivery(idle, published.activity.id)
    assert found_delivery.state == DELIVERY_STATE_QUEUED
    await serve(limits=NARROW, workers=2)

    async def delivered() -> bool:
        state = (await delivery(idle, published.activity.id)).state
        return state == DELIVERY_STATE_DELIVERED

    await until(delivered)
    assert (await status(idle)).dead_letter_count == 0
    assert published.activity.id in await idle.feed(broken)


@pytest.mark.every_store
async def test_discarded_letters_are_gone(idle: Service) -> None:
    planted = await plant(idle, 3)
    wanted = [planted[2], planted[0], planted[2], "nonsense"]
    answer = await idle.admin.DiscardDeadLetters(DiscardDeadLettersRequest(ids=wanted))
    assert [one.status.code for one in answer.results] == [
        code.value[0]
        for code in (
            grpc.StatusCode.OK,
            grpc.StatusCode.OK,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
        )
    ]
    assert [one.id async for one in letters(idle)] == [planted[1]]
    found = await status(idle)
    assert (found.open_count, found.dead_letter_count) == (0, 1)


@pytest.mark.every_store
async def test_replayed_letters_are_queued(idle: Service, serve: Serve) -> None:
    planted = await plant(idle, 3)
    wanted = [planted[2], planted[0], planted[2], "nonsense"]
    answer = await idle.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=wanted))
    assert [one.status.code for one in answer.results] == [
        code.value[0]
        for code in (
            grpc.StatusCode.OK,
            grpc.StatusCode.OK,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
        )
    ]
    assert [one.id async for one in letters(idle)] == [planted[1]]
    found = await status(idle)
    assert (found.open_count, found.dead_letter_count) == (2, 1)
    await serve(limits=NARROW, workers=2)

    async def done() -> bool:
        return (await status(idle)).open_count == 0

    await until(done)
    assert (await status(idle)).dead_letter_count == 1
