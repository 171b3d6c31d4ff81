"""Each error of the contract, and that a refused call changes nothing."""

from typing import Any

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import ReplayDeadLettersRequest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    GetActivityRequest,
    GetDeliveryRequest,
    PublishActivityRequest,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from feedsvc.config import Limits
from feedsvc.core import keys
from tests.contract.refusals import check_refusal, check_unchanged
from tests.serving import Refusal, Serve, Service, at_ms, expect_refusal, wait_until

#: A delivery to two followers is queued; two such deliveries may wait.
NARROW = Limits(inline_audience=1, push_chunk=1, max_jobs=4)
SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20, max_followees=3)


@pytest.mark.every_store
async def test_delete_by_another_than_the_actor_is_refused(service: Service) -> None:
    activity_id = await service.post("alice", to=["repo:x"])
    for other in ("bob", "repo:x", "Alice", "alice "):
        await check_unchanged(service, service.delete(activity_id, other), "NOT_THE_ACTOR")
    assert (await service.get(activity_id)).id == activity_id


@pytest.mark.every_store
async def test_deleted_and_unknown_activities_are_not_found(service: Service) -> None:
    activity_id = await service.post("alice")
    await service.delete(activity_id, "alice")
    for call in (
        service.get(activity_id),
        service.delete(activity_id, "alice"),
        service.activities.GetDelivery(GetDeliveryRequest(id=activity_id)),
        service.get("1898765432109876543"),
        service.delete("1898765432109876543", "alice"),
        service.activities.GetDelivery(GetDeliveryRequest(id="1898765432109876543")),
    ):
        await check_unchanged(service, call, "ACTIVITY_NOT_FOUND")


@pytest.mark.every_store
async def test_publish_with_the_external_id_of_a_deleted_activity_is_refused(
    service: Service,
) -> None:
    activity_id = await service.post("alice", external_id="e")
    await service.delete(activity_id, "alice")
    for fields in ({}, {"content": "other"}):
        call = service.publish("alice", external_id="e", **fields)
        await check_unchanged(service, call, "ACTIVITY_DELETED")


@pytest.mark.every_store
async def test_external_id_conflict_names_the_activity(service: Service) -> None:
    activity_id = await service.post("alice", external_id="e", content="one")
    for fields in ({"content": "two"}, {}, {"content": "one", "to": ["repo:x"]}):
        call = service.publish("alice", external_id="e", **fields)
        await check_unchanged(service, call, "EXTERNAL_ID_CONFLICT", activity_id=activity_id)


@pytest.mark.every_store
async def test_external_id_is_unique_per_actor_and_for_good(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.warm("bob")
    first = await service.publish("alice", external_id="e", content="x")
    assert not first.already_published
    second = await service.publish("alice", external_id="e", content="x")
    assert second.already_published
    assert second.activity == first.activity
    # Another request id, or an id (which is ignored), makes no difference.
    third = await service.publish(
        "alice", external_id="e", content="x", request_id="r", id="1898765432109876543"
    )
    assert third.activity == first.activity
    other_actors = await service.publish("carol", external_id="e", content="x")
    assert not other_actors.already_published
    assert await service.feed("bob") == [first.activity.id]


@pytest.mark.every_store
async def test_request_id_reused_for_another_request_is_refused(service: Service) -> None:
    activity_id = await service.post("alice", request_id="r")
    other_ids = await service.post_many("alice", 2)
    await service.follow("bob", "alice", request_id="r")
    await service.follow("bob", "carol")
    await service.unfollow("bob", "carol", request_id="r")
    await service.delete(other_ids[0], "alice", request_id="r")
    for call in (
        service.publish("alice", "other", request_id="r"),
        service.publish("alice", request_id="r", to=["repo:x"]),
        service.publish("alice", request_id="r", external_id="e"),
        service.follow("bob", "carol", request_id="r"),
        service.unfollow("bob", "alice", request_id="r"),
        service.delete(other_ids[1], "alice", request_id="r"),
    ):
        await check_unchanged(service, call, "REQUEST_ID_REUSED")
    assert await service.outbox("alice") == [other_ids[1], activity_id]
    assert await service.following("bob") == ["alice"]


@pytest.mark.every_store
async def test_request_id_is_scoped_to_the_rpc_and_the_actor(service: Service) -> None:
    """Actors and request ids that are the same text when joined are different all the same."""
    await service.follow("bob", "alice", request_id="r")
    await service.follow("carol", "bob", request_id="r")
    await service.unfollow("bob", "alice", request_id="r")
    assert await service.counts("bob") == (1, 0)
    ids = {
        await service.post(actor, request_id=request_id)
        for actor, request_id in (("a", "r"), ("b", "r"), ("a", "\0r"), ("ar", ""), ("a", "r\0"))
    }
    assert len(ids) == 5


@pytest.mark.every_store
async def test_publish_below_the_trimmed_outbox_is_refused(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    start = 1_700_000_000_000
    posted = [
        await service.post("alice", publish_time=at_ms(start + number)) for number in range(25)
    ]
    early_time = at_ms(start + 4)  # the outbox has trimmed numbers 0 to 4
    call = service.publish("alice", publish_time=early_time, request_id="r", external_id="e")
    await check_unchanged(service, call, "BEFORE_RETENTION")
    # The actor's outbox has no say where the activity does not go there.
    addressed_id = await service.post(
        "alice", publish_time=early_time, to=["repo:x"], audience="AUDIENCE_TO_ONLY"
    )
    assert await service.outbox("repo:x") == [addressed_id]
    assert await service.outbox("alice") == posted[:4:-1]
    late_id = await service.post("alice", publish_time=at_ms(start + 10))
    assert await service.outbox("alice") == sorted([*posted[6:], late_id], reverse=True)


@pytest.mark.every_store
async def test_follow_beyond_the_limit_of_followees_is_refused(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    for name in ("a", "b", "c"):
        await service.follow("bob", name)
    # The mark of possible followers in bob's shard is set before the edge, and stays.
    await expect_refusal(service.follow("bob", "d"))
    call = service.follow("bob", "d", request_id="r")
    await check_unchanged(service, call, "TOO_MANY_FOLLOWEES", limit="3")
    assert (await service.follow("bob", "a")).already_following
    await service.unfollow("bob", "a")
    assert not (await service.follow("bob", "d", request_id="r")).already_following
    assert sorted(await service.following("bob")) == ["b", "c", "d"]
    assert await service.counts("d") == (1, 0)


def publish_request(actor: str, request_id: str, *, wait: bool = False) -> PublishActivityRequest:
    activity = Activity(actor=actor, verb="post", content=request_id)
    return PublishActivityRequest(activity=activity, request_id=request_id, wait_for_delivery=wait)


@pytest.mark.every_store
async def test_publish_is_refused_while_too_many_deliveries_wait(serve: Serve) -> None:
    service = await serve(limits=NARROW, workers=0)
    # So many followers that a shard has several, and the call delivers to the first of them only.
    await service.follow_all([(f"f{number}", "alice") for number in range(60)])
    # Request ids are kept from the first publish on: a refused publish is not remembered.
    queued = [await service.publish("alice", request_id=request_id) for request_id in ("a", "b")]
    for wait in (False, True):
        call = service.activities.PublishActivity(publish_request("alice", "c", wait=wait))
        await check_unchanged(service, call, "FANOUT_OVERLOADED")
    batch = BatchPublishActivitiesRequest(requests=[publish_request("alice", "c")] * 3)
    answer = await service.activities.BatchPublishActivities(batch)
    for result in answer.results:
        check_refusal(Refusal.from_status(result.error), "FANOUT_OVERLOADED")
    # Repetitions and activities that need no job are not refused.
    assert (await service.publish("alice", request_id="a")).already_published
    assert not (await service.publish("lonely")).already_published
    assert await service.outbox("alice") == [result.activity.id for result in queued[::-1]]
    # The workers of another server make room, and the refused publish succeeds.
    server_with_workers = await serve(limits=NARROW, workers=2)

    async def is_published() -> bool:
        answer = await service.activities.BatchPublishActivities(batch)
        return all(result.HasField("response") for result in answer.results)

    await wait_until(is_published)
    answer = await server_with_workers.activities.BatchPublishActivities(batch)
    assert len({result.response.activity.id for result in answer.results}) == 1
    assert len(await service.outbox("alice")) == 3


@pytest.mark.every_store
async def test_unknown_dead_letters_are_not_found(service: Service) -> None:
    stored_before = await service.dump()
    shards = service.server.config.limits.shards
    ids = [
        "0-1700000000000-0",
        f"{shards - 1}-1-1",
        f"{shards}-1-1",
        "999-" + "-".join(["9" * 19] * 2),
    ]
    answer = await service.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=ids))
    for result in answer.results:
        check_refusal(Refusal.from_status(result.status), "DEAD_LETTER_NOT_FOUND")
    assert len(answer.results) == len(ids)
    assert await service.dump() == stored_before


# Defects in what is stored: the caller learns nothing but that a defect exists.


async def plant_body(service: Service, activity_id: str) -> Any:
    await service.store.set(service.activity_key(activity_id), b"\0\0\xffsecret")
    return service.activities.GetActivity(GetActivityRequest(id=activity_id))


async def plant_feed(service: Service, activity_id: str) -> Any:
    await service.store.set(keys.feed(service.tag("alice"), "alice"), "secret")
    return service.feeds.GetFeed(GetFeedRequest(user="alice"))


async def plant_outbox(service: Service, activity_id: str) -> Any:
    await service.store.set(f"{service.tag('alice')}o:alice", "secret")
    return service.publish("alice")


@pytest.mark.every_store
@pytest.mark.parametrize("plant", [plant_body, plant_feed, plant_outbox])
async def test_defect_in_the_store_is_an_internal_error_without_details(
    service: Service, plant: Any
) -> None:
    activity_id = await service.post("alice")
    refusal = await expect_refusal(await plant(service, activity_id))
    check_refusal(refusal, "INTERNAL")
    assert refusal.message == "internal error"
    assert b"secret" not in refusal.status.SerializeToString()
    own_id = await service.post("bob")
    assert await service.feed("bob") == [own_id]


async def test_defect_in_the_store_ends_a_stream_with_an_internal_error(service: Service) -> None:
    await service.store.set(f"{service.tag('bob')}v", "secret")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.subscribe("bob")
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
