"""A retry gets the same answer and changes nothing, whatever was done in between."""

import asyncio
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS

from tests.serving import Service, at_ms, expect_refusal


@pytest.mark.every_store
async def test_retry_of_a_publish_answers_the_same_and_changes_nothing(service: Service) -> None:
    fields: dict[str, Any] = {
        "request_id": "r",
        "to": ["repo:x"],
        "publish_time": at_ms(1_700_000_000_123),
        "content": "x",
    }
    first = await service.publish("alice", **fields)
    assert (first.already_published, first.activity.audience) == (False, AUDIENCE_FOLLOWERS)
    stored_before = await service.dump()
    second = await service.publish("alice", **fields)
    assert (second.already_published, second.activity) == (True, first.activity)
    assert await service.dump() == stored_before
    await service.delete(first.activity.id, "alice")
    stored_before = await service.dump()
    third = await service.publish("alice", **fields)
    # After the delete the service does not know the create_time, because publish_time was given.
    first.activity.ClearField("create_time")
    assert (third.already_published, third.activity) == (True, first.activity)
    assert await service.dump() == stored_before
    assert await service.outbox("alice") == []


async def test_retry_of_a_deleted_publish_answers_as_the_first(service: Service) -> None:
    """The answer also has the fields that the service filled in."""
    first = await service.publish("alice", request_id="r")
    await service.delete(first.activity.id, "alice")
    await asyncio.sleep(0.002)  # another millisecond, or the times would be the same anyway
    second = await service.publish("alice", request_id="r")
    assert second.activity == first.activity


@pytest.mark.every_store
async def test_retry_of_a_delete_succeeds_and_changes_nothing(service: Service) -> None:
    activity_id = await service.post("alice", external_id="e")
    await service.delete(activity_id, "alice", request_id="r")
    stored_before = await service.dump()
    await service.delete(activity_id, "alice", request_id="r")
    assert await service.dump() == stored_before
    assert (
        await expect_refusal(service.publish("alice", external_id="e"))
    ).reason == "ACTIVITY_DELETED"
    await service.delete(activity_id, "alice", request_id="r")


@pytest.mark.every_store
async def test_retry_of_a_follow_answers_the_same_and_changes_nothing(service: Service) -> None:
    first = await service.follow("bob", "alice", request_id="r")
    second = await service.follow("bob", "alice", request_id="s")
    assert (first.already_following, second.already_following) == (False, True)
    assert first.edge == second.edge
    for _ in range(2):
        stored_before = await service.dump()
        assert await service.follow("bob", "alice", request_id="r") == first
        assert await service.follow("bob", "alice", request_id="s") == second
        assert await service.dump() == stored_before
        await service.unfollow("bob", "alice")
    assert await service.following("bob") == []
    third = await service.follow("bob", "alice", request_id="t")
    assert third.edge != first.edge
    assert await service.follow("bob", "alice", request_id="r") == first


@pytest.mark.every_store
async def test_retry_of_an_unfollow_answers_the_same_and_changes_nothing(service: Service) -> None:
    await service.follow("bob", "alice")
    first = await service.unfollow("bob", "alice", request_id="r")
    second = await service.unfollow("bob", "alice", request_id="s")
    assert (first.was_following, second.was_following) == (True, False)
    await service.follow("bob", "alice")
    stored_before = await service.dump()
    assert await service.unfollow("bob", "alice", request_id="r") == first
    assert await service.unfollow("bob", "alice", request_id="s") == second
    assert await service.dump() == stored_before
    assert await service.following("bob") == ["alice"]


async def test_concurrent_retries_publish_once(service: Service) -> None:
    answers = await asyncio.gather(
        *(service.publish("alice", request_id="r") for _ in range(50)),
        *(service.publish("alice", external_id="e") for _ in range(50)),
    )
    assert len({answer.activity.id for answer in answers[:50]}) == 1
    assert len({answer.activity.id for answer in answers[50:]}) == 1
    assert [answer.already_published for answer in answers].count(False) == 2
    assert len(await service.outbox("alice")) == 2
