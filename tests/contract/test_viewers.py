"""Every read on behalf of a viewer passes the one place where viewer rules will be applied."""

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
from tests.serving import Serve, Service, refused, said

READS: dict[str, tuple[str, Callable[[str], Message]]] = {
    "GetActivity": ("activities", lambda one: activities.GetActivityRequest(id=one)),
    "GetDelivery": ("activities", lambda one: activities.GetDeliveryRequest(id=one)),
    "BatchGetActivities": (
        "activities",
        lambda one: activities.BatchGetActivitiesRequest(ids=[one]),
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
#: Those that tell what happens; see the test of streams.
TELLING = {"SubscribeFeed", "AddFeedSubscription", "SubscribeActivities", "GetFeedEvents"}


def test_no_read_is_forgotten() -> None:
    names = {
        kind.DESCRIPTOR.name.removesuffix("Request")
        for kind in RULES
        if "viewer" in kind.DESCRIPTOR.fields_by_name
    }
    assert names | {"AddFeedSubscription"} == READS.keys() | TELLING


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Viewers who see nothing."""
    blind: list[str] = []

    async def nothing(_: Viewers, viewer: str, found: Any) -> Any:
        return [] if viewer in blind else found

    monkeypatch.setattr(Viewers, "activities", nothing)
    monkeypatch.setattr(Viewers, "entities", nothing)
    return blind


@pytest.mark.parametrize("name", READS)
async def test_reads_go_by_the_viewer(service: Service, hidden: list[str], name: str) -> None:
    await service.follow("bob", "alice")
    posted = await service.post("alice")
    stub, make = READS[name]
    call = getattr(getattr(service, stub), name)

    def request(viewer: str) -> Any:
        made: Any = make(posted)
        made.viewer = viewer
        return made

    hidden.append("eve")
    seen, unseen = await call(request("carol")), None
    if name in {"GetActivity", "GetDelivery"}:
        assert (await refused(call(request("eve")))).reason == "ACTIVITY_NOT_FOUND"
        return
    unseen = await call(request("eve"))
    assert len(shown(unseen)) < len(shown(seen))


def shown(answer: Any) -> list[Any]:
    """What an answer shows of activities and entities."""
    answer = getattr(answer, "page", answer)
    if answer.DESCRIPTOR.name == "GetFollowCountsResponse":
        return [1] * answer.follower_count
    many = [one for field, some in answer.ListFields() if field.is_repeated for one in some]
    if answer.DESCRIPTOR.name == "BatchGetRelationshipsResponse":
        return [one for one in many if one.following]
    return [one for one in many if not (hasattr(one, "error") and one.HasField("error"))]


async def test_what_is_told_goes_by_the_viewer(serve: Serve, hidden: list[str]) -> None:
    service = await serve(checkpoint_seconds=300)
    hidden.append("eve")
    feed = await service.subscribe("alice", viewer="eve")
    box = await service.subscribe_activities("alice", viewer="eve")
    many = service.subscriptions.SubscribeFeeds()
    add = subscriptions.AddFeedSubscription(subscription_id="s", user="alice", viewer="eve")
    await many.write(subscriptions.SubscribeFeedsRequest(add=add))
    assert said(await many.read()) == [("started", "")]
    polling = subscriptions.GetFeedEventsRequest(user="alice", viewer="eve")
    begun = await service.subscriptions.GetFeedEvents(polling)
    unseen = await service.post("alice")
    polling.resume_token = begun.resume_token
    assert not (await service.subscriptions.GetFeedEvents(polling)).events
    # Something that everybody is told, so that what was not told before it is left out.
    await service.follow("alice", "carol")
    assert await feed.event() == ("followed", "carol")
    assert said(await many.read()) == [("followed", "carol")]
    await service.delete(unseen, "alice")
    assert await box.event() == ("removed", unseen)
    many.cancel()
