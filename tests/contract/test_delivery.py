"""Progress of deliveries: in answers of publishes, GetDelivery and the operators' status."""

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
from tests.dead_letters import ERROR, MISSING_ACTIVITY_ID, SINCE_MS, store_dead_letters
from tests.serving import Serve, Service, at_ms, ids_on_page, wait_until

#: A delivery to two followers is queued.
NARROW = Limits(inline_audience=1, push_chunk=1)
FOLLOWERS = [f"f{number}" for number in range(12)]


@pytest.fixture
async def idle_service(serve: Serve) -> Service:
    """Start a server without workers; alice has followers, of whom two have warm feeds."""
    service = await serve(limits=NARROW, workers=0)
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS[:2])
    return service


async def publish_and_wait(
    service: Service, actor: str, seconds: float | None = None, **fields: Any
) -> PublishActivityResponse:
    """Publish and wait for the delivery."""
    activity = Activity(actor=actor, verb="post", **fields)
    request = PublishActivityRequest(activity=activity, wait_for_delivery=True)
    return await service.activities.PublishActivity(request, timeout=seconds)


async def delivery(service: Service, activity_id: str) -> Delivery:
    request = GetDeliveryRequest(id=activity_id)
    return (await service.activities.GetDelivery(request)).delivery


async def status(service: Service) -> GetFanoutStatusResponse:
    return await service.admin.GetFanoutStatus(GetFanoutStatusRequest())


@pytest.mark.every_store
async def test_publish_to_a_small_audience_returns_after_the_delivery(service: Service) -> None:
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS[:2])
    with_counts = Delivery(
        delivered_count=2,
        skipped_cold_count=10,
        state=DELIVERY_STATE_DELIVERED,
        audience_count=12,
    )
    published = await service.publish("alice", request_id="r")
    assert published.delivery == with_counts
    assert (await publish_and_wait(service, "alice")).delivery == with_counts
    # A later answer has the state alone.
    state_only = Delivery(state=DELIVERY_STATE_DELIVERED)
    assert await delivery(service, published.activity.id) == state_only
    assert (await service.publish("alice", request_id="r")).delivery == state_only
    lonely = await service.publish("lonely")
    no_counts = {"delivered_count": 0, "skipped_cold_count": 0, "audience_count": 0}
    assert lonely.delivery == Delivery(state=DELIVERY_STATE_DELIVERED, **no_counts)
    addressed = await service.publish("bob", to=["alice"], audience=AUDIENCE_TO_ONLY)
    assert addressed.delivery == with_counts
    assert await delivery(service, addressed.activity.id) == state_only


@pytest.mark.every_store
async def test_delivery_to_a_large_audience_is_queued_and_then_delivered(
    idle_service: Service, serve: Serve
) -> None:
    published = await idle_service.publish("alice", request_id="r")
    assert (published.delivery.state, published.delivery.audience_count) == (
        DELIVERY_STATE_QUEUED,
        12,
    )
    retried = await idle_service.publish("alice", request_id="r")
    for progress in (retried.delivery, await delivery(idle_service, published.activity.id)):
        assert (progress.state, progress.audience_count) == (DELIVERY_STATE_QUEUED, 12)
    assert await idle_service.feed("alice") == [published.activity.id]
    assert ids_on_page(await idle_service.page(FOLLOWERS[-1])) == [published.activity.id], (
        "a cold feed shows the activity at once"
    )
    await serve(limits=NARROW, workers=2)

    async def is_delivered() -> bool:
        state = (await delivery(idle_service, published.activity.id)).state
        return state == DELIVERY_STATE_DELIVERED

    await wait_until(is_delivered)
    progress = await delivery(idle_service, published.activity.id)
    assert (progress.delivered_count, progress.skipped_cold_count, progress.audience_count) == (
        2,
        9,
        12,
    )
    retried = await idle_service.publish("alice", request_id="r")
    assert (retried.already_published, retried.delivery) == (True, progress)
    for name in FOLLOWERS[:2]:
        assert await idle_service.feed(name) == [published.activity.id]


@pytest.mark.every_store
async def test_publish_may_wait_for_its_delivery(serve: Serve) -> None:
    service = await serve(limits=NARROW, workers=2)
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS)
    published = await publish_and_wait(service, "alice")
    complete = Delivery(
        delivered_count=12,
        skipped_cold_count=0,
        state=DELIVERY_STATE_DELIVERED,
        audience_count=12,
    )
    assert published.delivery == complete
    requests = [
        PublishActivityRequest(
            activity=Activity(actor="alice", verb="post"), wait_for_delivery=True
        )
        for _ in range(30)
    ]
    answer = await service.activities.BatchPublishActivities(
        BatchPublishActivitiesRequest(requests=requests)
    )
    assert [result.response.delivery for result in answer.results] == [complete] * 30
    batch_ids = [result.response.activity.id for result in answer.results][::-1]
    assert await service.feed("f0") == [*batch_ids, published.activity.id]


@pytest.mark.parametrize("seconds", [0.2, 0.5, 3.0])
async def test_publish_that_waits_returns_before_its_deadline(
    idle_service: Service, seconds: float
) -> None:
    start = time.monotonic()
    published = await publish_and_wait(idle_service, "alice", seconds)
    assert published.delivery.state == DELIVERY_STATE_QUEUED
    assert 0.4 * seconds < time.monotonic() - start < seconds


async def test_time_of_the_publish_itself_counts_towards_the_wait(
    idle_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    activities = idle_service.server.engine.activities
    publish = activities._publish

    async def publish_slowly(*arguments: Any) -> Published:
        await asyncio.sleep(1)
        return await publish(*arguments)

    monkeypatch.setattr(activities, "_publish", publish_slowly)
    published = await publish_and_wait(idle_service, "alice", 3)
    assert published.delivery.state == DELIVERY_STATE_QUEUED


async def test_entries_of_a_batch_wait_together(idle_service: Service) -> None:
    request = PublishActivityRequest(
        activity=Activity(actor="alice", verb="post"), wait_for_delivery=True
    )
    batch = BatchPublishActivitiesRequest(requests=[request] * 50)
    start = time.monotonic()
    answer = await idle_service.activities.BatchPublishActivities(batch, timeout=2)
    assert 1 < time.monotonic() - start < 2
    states = {result.response.delivery.state for result in answer.results}
    assert states == {DELIVERY_STATE_QUEUED}


async def test_publish_that_waits_delays_no_other_call(idle_service: Service) -> None:
    waiting = asyncio.create_task(publish_and_wait(idle_service, "alice", 5))

    async def is_queued() -> bool:
        return (await status(idle_service)).open_count > 0

    await wait_until(is_queued)
    start = time.monotonic()
    await idle_service.publish("alice")
    await idle_service.page("bob")
    assert time.monotonic() - start < 1
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.every_store
async def test_delivery_of_a_deleted_activity_is_not_found(idle_service: Service) -> None:
    published = await idle_service.publish("alice")
    await idle_service.delete(published.activity.id, "alice")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await delivery(idle_service, published.activity.id)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.every_store
async def test_delivery_of_a_celebrity_is_pulled(serve: Serve) -> None:
    service = await serve(
        limits=Limits(inline_audience=1, push_chunk=1, celebrity_threshold=10), workers=2
    )
    await service.follow_all([(name, "alice") for name in FOLLOWERS])
    await service.warm(*FOLLOWERS)

    async def is_pulled() -> bool:
        progress = (await publish_and_wait(service, "alice")).delivery
        return progress.state == DELIVERY_STATE_PULLED and progress.audience_count == 12

    await wait_until(is_pulled)
    newest_id = (await service.outbox("alice"))[0]
    assert (await delivery(service, newest_id)).state == DELIVERY_STATE_PULLED
    for name in FOLLOWERS:
        assert (await service.feed(name))[0] == newest_id


# The status and the dead letters, for operators.


@pytest.mark.every_store
async def test_status_of_a_service_at_rest_is_empty(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.post("alice")
    fanout_status = await status(service)
    assert fanout_status == GetFanoutStatusResponse(lag=fanout_status.lag)
    assert fanout_status.lag.ToMilliseconds() == 0


@pytest.mark.every_store
async def test_status_reports_the_waiting_jobs_and_their_lag(
    idle_service: Service, serve: Serve
) -> None:
    before_ms = time.time_ns() // 1_000_000
    first_id = await idle_service.post("alice", to=["repo:x"])
    await idle_service.post_many("alice", 2)
    await store_dead_letters(idle_service, 4)

    async def is_behind() -> bool:
        return (await status(idle_service)).lag.ToMilliseconds() >= 50

    await wait_until(is_behind)
    fanout_status = await status(idle_service)
    assert (fanout_status.open_count, fanout_status.waiting_count, fanout_status.running_count) == (
        3,
        3,
        0,
    )
    assert (
        fanout_status.inline_count,
        fanout_status.dead_letter_count,
        fanout_status.followers_per_second,
    ) == (0, 4, 0)
    assert fanout_status.lag.ToMilliseconds() <= time.time_ns() // 1_000_000 - before_ms
    oldest = fanout_status.oldest
    assert (oldest.kind, oldest.activity_id) == (JOB_KIND_DELIVER, first_id)
    assert (oldest.actor, list(oldest.to), oldest.attempt_count) == ("alice", ["repo:x"], 0)
    assert oldest.queue_time.ToMilliseconds() >= before_ms
    await serve(limits=NARROW, workers=2)

    async def is_done() -> bool:
        return (await status(idle_service)).open_count == 0

    await wait_until(is_done)
    fanout_status = await status(idle_service)
    assert (fanout_status.dead_letter_count, fanout_status.HasField("oldest")) == (4, False)
    assert fanout_status.lag.ToMilliseconds() == 0


async def list_letters(service: Service, size: int = 0) -> AsyncIterator[DeadLetter]:
    """Yield all dead letters, from pages of `size`."""
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
async def test_each_dead_letter_is_listed_once(idle_service: Service, size: int) -> None:
    planted = await store_dead_letters(idle_service, 21)
    assert [letter.id async for letter in list_letters(idle_service, size)] == planted


async def test_full_last_page_of_dead_letters_is_the_end(idle_service: Service) -> None:
    await store_dead_letters(idle_service, 6)
    page = await idle_service.admin.ListDeadLetters(ListDeadLettersRequest(page_size=6))
    assert (len(page.dead_letters), page.next_page_token) == (6, "")
    assert (
        await idle_service.admin.ListDeadLetters(ListDeadLettersRequest(page_size=5))
    ).next_page_token


async def test_dead_letter_describes_its_job(idle_service: Service) -> None:
    before_ms = time.time_ns() // 1_000_000
    planted = await store_dead_letters(
        idle_service,
        3,
        Job(Kind.DELIVER, MISSING_ACTIVITY_ID, "", ("repo:x", "repo:y")),
        Job(Kind.RETRACT, MISSING_ACTIVITY_ID + 1, "alice"),
        Job(Kind.FLIP, 17, "star"),
    )
    listed = [letter async for letter in list_letters(idle_service)]
    assert [letter.id for letter in listed] == planted
    assert sorted((letter.job for letter in listed), key=lambda job: job.delivered_count) == [
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
                (JOB_KIND_DELIVER, str(MISSING_ACTIVITY_ID), "", ["repo:x", "repo:y"]),
                (JOB_KIND_RETRACT, str(MISSING_ACTIVITY_ID + 1), "alice", []),
                (JOB_KIND_FLIP, "", "star", []),
            )
        )
    ]
    assert {letter.error for letter in listed} == {ERROR}
    for letter in listed:
        assert (
            before_ms - 5 <= letter.failure_time.ToMilliseconds() <= time.time_ns() // 1_000_000 + 5
        )


@pytest.mark.every_store
async def test_failed_delivery_becomes_a_dead_letter_that_can_be_replayed(
    idle_service: Service, serve: Serve
) -> None:
    (broken_user, *other_users) = FOLLOWERS[:2]
    feed_key = keys.feed(idle_service.tag(broken_user), broken_user)
    await idle_service.store.set(feed_key, "no list")
    published = await idle_service.publish("alice")
    server_with_workers = await serve(limits=dataclasses.replace(NARROW, job_tries=2), workers=2)

    async def has_failed() -> bool:
        return (await delivery(idle_service, published.activity.id)).state == DELIVERY_STATE_FAILED

    await wait_until(has_failed)
    fanout_status = await status(idle_service)
    assert (fanout_status.open_count, fanout_status.dead_letter_count) == (0, 1)
    (letter,) = [letter async for letter in list_letters(idle_service)]
    assert (letter.job.activity_id, letter.job.actor) == (published.activity.id, "alice")
    assert letter.job.attempt_count == 2
    assert "WRONGTYPE" in letter.error
    # A delivery that fails in a shard goes on in the other shards.
    for name in other_users:
        assert (await idle_service.stats(name)).entry_count == 1
    assert (
        await idle_service.publish("alice", external_id="e")
    ).delivery.state == DELIVERY_STATE_QUEUED
    await server_with_workers.stop()
    await idle_service.store.delete(feed_key)
    await idle_service.warm(broken_user)
    answer = await idle_service.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=[letter.id]))
    assert answer.results[0].status.code == 0
    progress = await delivery(idle_service, published.activity.id)
    assert progress.state == DELIVERY_STATE_QUEUED
    await serve(limits=NARROW, workers=2)

    async def is_delivered() -> bool:
        state = (await delivery(idle_service, published.activity.id)).state
        return state == DELIVERY_STATE_DELIVERED

    await wait_until(is_delivered)
    assert (await status(idle_service)).dead_letter_count == 0
    assert published.activity.id in await idle_service.feed(broken_user)


async def handle_two_of_three_letters(service: Service, method: Any, request_type: Any) -> None:
    """Plant three letters and check that a method takes two of them away.

    The method gets a letter twice, and an id that is none.
    """
    planted = await store_dead_letters(service, 3)
    letter_ids = [planted[2], planted[0], planted[2], "nonsense"]
    answer = await method(request_type(ids=letter_ids))
    assert [result.status.code for result in answer.results] == [
        code.value[0]
        for code in (
            grpc.StatusCode.OK,
            grpc.StatusCode.OK,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
        )
    ]
    assert [letter.id async for letter in list_letters(service)] == [planted[1]]


@pytest.mark.every_store
async def test_discarded_dead_letters_are_gone(idle_service: Service) -> None:
    await handle_two_of_three_letters(
        idle_service, idle_service.admin.DiscardDeadLetters, DiscardDeadLettersRequest
    )
    fanout_status = await status(idle_service)
    assert (fanout_status.open_count, fanout_status.dead_letter_count) == (0, 1)


@pytest.mark.every_store
async def test_replayed_dead_letters_are_queued(idle_service: Service, serve: Serve) -> None:
    await handle_two_of_three_letters(
        idle_service, idle_service.admin.ReplayDeadLetters, ReplayDeadLettersRequest
    )
    fanout_status = await status(idle_service)
    assert (fanout_status.open_count, fanout_status.dead_letter_count) == (2, 1)
    await serve(limits=NARROW, workers=2)

    async def is_done() -> bool:
        return (await status(idle_service)).open_count == 0

    await wait_until(is_done)
    assert (await status(idle_service)).dead_letter_count == 1
