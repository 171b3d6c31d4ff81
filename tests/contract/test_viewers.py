"""Every read for a viewer passes the single place where viewer rules will be applied."""

from collections.abc import Callable
from typing import Any

import pytest
from activityfeed.v1 import activity_service_pb2 as activities
from activityfeed.v1 import feed_service_pb2 as feeds
from activityfeed.v1 import follow_service_pb2 as follows
from activityfeed.v1 import subscription_service_pb2 as subscriptions
from google.protobuf.message import Message

from feedsvc.core.viewers import Viewers
from feedsvc.validation.rules import RULES
from tests.serving import Serve, Service, events_of, expect_refusal

READS: dict[str, tuple[str, Callable[[str], Message]]] = {
    "GetActivity": (
        "activities",
        lambda activity_id: activities.GetActivityRequest(id=activity_id),
    ),
    "GetDelivery": (
        "activities",
        lambda activity_id: activities.GetDeliveryRequest(id=activity_id),
    ),
    "BatchGetActivities": (
        "activities",
        lambda activity_id: activities.BatchGetActivitiesRequest(ids=[activity_id]),
    ),
    "ListActivities": ("activities", lambda _: activities.ListActivitiesRequest(entity="alice")),
    "ListFollowers": ("follows", lambda _: follows.ListFollowersRequest(entity="alice")),
    "ListFollowing": ("follows", lambda _: follows.ListFollowingRequest(entity="bob")),
    "BatchGetRelationships": (
        "follows",
        lambda _: follows.BatchGetRelationshipsRequest(entity="bob", others=["alice"]),
    ),
    "GetFollowCounts": ("follows", lambda _: follows.GetFollowCountsRequest(entity="alice")),
    "GetFeed": ("feeds", lambda _: feeds.GetFeedRequest(user="bob")),
}
#: Requests that bring events; see the test of streams.
STREAMING = {"SubscribeFeed", "AddFeedSubscription", "SubscribeActivities", "GetFeedEvents"}


def test_every_request_with_a_viewer_is_tested() -> None:
    names = {
        request_type.DESCRIPTOR.name.removesuffix("Request")
        for request_type in RULES
        if "viewer" in request_type.DESCRIPTOR.fields_by_name
    }
    assert names | {"AddFeedSubscription"} == READS.keys() | STREAMING


@pytest.fixture
def blind_viewers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of viewers who see nothing; the test fills the list."""
    viewers: list[str] = []

    async def filter_for_viewer(_: Viewers, viewer: str, shown: Any) -> Any:
        return [] if viewer in viewers else shown

    monkeypatch.setattr(Viewers, "activities", filter_for_viewer)
    monkeypatch.setattr(Viewers, "entities", filter_for_viewer)
    return viewers


@pytest.mark.parametrize("name", READS)
async def test_read_shows_nothing_that_its_viewer_may_not_see(
    service: Service, blind_viewers: list[str], name: str
) -> None:
    await service.follow("bob", "alice")
    activity_id = await service.post("alice")
    stub, make_request = READS[name]
    call = getattr(getattr(service, stub), name)

    def request(viewer: str) -> Any:
        message: Any = make_request(activity_id)
        message.viewer = viewer
        return message

    blind_viewers.append("eve")
    seen_by_carol = await call(request("carol"))
    if name in {"GetActivity", "GetDelivery"}:
        assert (await expect_refusal(call(request("eve")))).reason == "ACTIVITY_NOT_FOUND"
        return
    seen_by_eve = await call(request("eve"))
    assert len(shown_entries(seen_by_eve)) < len(shown_entries(seen_by_carol))


def shown_entries(answer: Any) -> list[Any]:
    """Return the activities and entities that an answer shows."""
    answer = getattr(answer, "page", answer)
    if answer.DESCRIPTOR.name == "GetFollowCountsResponse":
        return [1] * answer.follower_count
    entries = [
        entry for field, values in answer.ListFields() if field.is_repeated for entry in values
    ]
    if answer.DESCRIPTOR.name == "BatchGetRelationshipsResponse":
        return [entry for entry in entries if entry.following]
    return [entry for entry in entries if not (hasattr(entry, "error") and entry.HasField("error"))]


async def test_stream_shows_nothing_that_its_viewer_may_not_see(
    serve: Serve, blind_viewers: list[str]
) -> None:
    service = await serve(checkpoint_seconds=300)
    blind_viewers.append("eve")
    feed_stream = await service.subscribe("alice", viewer="eve")
    outbox_stream = await service.subscribe_activities("alice", viewer="eve")
    feeds_stream = service.subscriptions.SubscribeFeeds()
    add = subscriptions.AddFeedSubscription(subscription_id="s", user="alice", viewer="eve")
    await feeds_stream.write(subscriptions.SubscribeFeedsRequest(add=add))
    assert events_of(await feeds_stream.read()) == [("started", "")]
    poll_request = subscriptions.GetFeedEventsRequest(user="alice", viewer="eve")
    first_poll = await service.subscriptions.GetFeedEvents(poll_request)
    hidden_id = await service.post("alice")
    poll_request.resume_token = first_poll.resume_token
    assert not (await service.subscriptions.GetFeedEvents(poll_request)).events
    # An event that every viewer gets: a hidden event would have come before it.
    await service.follow("alice", "carol")
    assert await feed_stream.read_event() == ("followed", "carol")
    assert events_of(await feeds_stream.read()) == [("followed", "carol")]
    await service.delete(hidden_id, "alice")
    assert await outbox_stream.read_event() == ("removed", hidden_id)
    feeds_stream.cancel()
