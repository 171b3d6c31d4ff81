"""The answer of a batch has a result for each entry, in the order of the entries."""

from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchGetActivitiesRequest,
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest

from feedsvc.config import Limits
from tests.serving import Refusal, Serve, Service

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20, max_followees=3)


@pytest.mark.every_store
async def test_batch_publish_answers_each_entry_in_order(service: Service) -> None:
    deleted_id = await service.post("alice", external_id="gone")
    await service.delete(deleted_id, "alice")
    taken_id = await service.post("alice", external_id="taken", content="one")
    await service.post("alice", request_id="used")

    def entry(request_id: str = "", **fields: Any) -> PublishActivityRequest:
        activity = Activity(**({"actor": "alice", "verb": "post"} | fields))
        return PublishActivityRequest(activity=activity, request_id=request_id)

    batch = BatchPublishActivitiesRequest(
        requests=[
            entry("one"),
            entry(actor=""),
            entry(external_id="gone"),
            entry("two", content="2"),
            entry(external_id="taken"),
            entry("used", content="other"),
            entry("one"),
            PublishActivityRequest(),
            entry("used"),
            entry(external_id="taken", content="one"),
        ]
    )
    first = await service.activities.BatchPublishActivities(batch)
    stored_before = await service.dump()
    outcomes = [
        Refusal.from_status(result.error).reason
        if result.HasField("error")
        else result.response.already_published
        for result in first.results
    ]
    assert outcomes == [
        False,
        "INVALID_FIELD",
        "ACTIVITY_DELETED",
        False,
        "EXTERNAL_ID_CONFLICT",
        "REQUEST_ID_REUSED",
        True,
        "INVALID_FIELD",
        True,
        True,
    ]
    assert Refusal.from_status(first.results[1].error).rules == {"activity.actor": "is required"}
    assert Refusal.from_status(first.results[4].error).metadata == {"activity_id": taken_id}
    assert first.results[0].response.activity == first.results[6].response.activity
    second = await service.activities.BatchPublishActivities(batch)
    for result, second_result in zip(first.results, second.results, strict=True):
        assert result.error == second_result.error
        assert result.response.activity == second_result.response.activity
    assert await service.dump() == stored_before


@pytest.mark.every_store
async def test_batch_follow_answers_each_entry_in_order(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "z", request_id="used")
    entries = [
        ("bob", "a", "one"),
        ("bob", "bob", ""),
        ("bob", "b", ""),
        ("bob", "b", ""),
        ("bob", "c", ""),
        ("carol", "a", "one"),
        ("bob", "y", "used"),
        ("", "", ""),
        ("bob", "a", "one"),
        ("bob", "z", ""),
    ]
    batch = BatchFollowRequest(
        requests=[
            FollowRequest(follower=follower, followee=followee, request_id=request_id)
            for follower, followee, request_id in entries
        ]
    )
    answer = await service.follows.BatchFollow(batch)
    outcomes = [
        Refusal.from_status(result.error).reason
        if result.HasField("error")
        else result.response.already_following
        for result in answer.results
    ]
    assert outcomes == [
        False,
        "INVALID_FIELD",
        False,
        True,
        "TOO_MANY_FOLLOWEES",
        False,
        "REQUEST_ID_REUSED",
        "INVALID_FIELD",
        False,  # a retry of the first entry
        True,
    ]
    edges = [
        (result.response.edge.follower, result.response.edge.followee) for result in answer.results
    ]
    assert edges[0] == edges[8] == ("bob", "a")
    assert Refusal.from_status(answer.results[4].error).metadata == {"limit": "3"}
    assert sorted(await service.following("bob")) == ["a", "b", "z"]


@pytest.mark.every_store
async def test_batch_get_answers_each_entry_in_order(service: Service) -> None:
    posted = await service.post_many("alice", 3) + await service.post_many("bob", 3)
    await service.delete(posted[1], "alice")
    requested_ids = [posted[4], posted[1], "nonsense", posted[0], posted[4], "1898765432109876543"]
    answer = await service.activities.BatchGetActivities(
        BatchGetActivitiesRequest(ids=requested_ids)
    )
    outcomes = [
        Refusal.from_status(result.error).reason
        if result.HasField("error")
        else result.activity.activity.id
        for result in answer.results
    ]
    assert outcomes == [
        posted[4],
        "ACTIVITY_NOT_FOUND",
        "INVALID_FIELD",
        posted[0],
        posted[4],
        "ACTIVITY_NOT_FOUND",
    ]
