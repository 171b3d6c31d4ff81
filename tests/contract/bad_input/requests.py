"""A good request of each method, and how a test changes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from activityfeed.admin.v1 import admin_service_pb2 as admin
from activityfeed.v1 import activity_service_pb2 as activities
from activityfeed.v1 import feed_service_pb2 as feeds
from activityfeed.v1 import follow_service_pb2 as follows
from activityfeed.v1 import subscription_service_pb2 as subscriptions
from activityfeed.v1.activity_pb2 import Activity
from google.protobuf.message import Message

ID = "1898765432109876543"
LETTER = "0-1700000000000-0"


@dataclass(frozen=True)
class Rpc:
    """A method, and a request that it accepts."""

    service: str
    method: str
    good: Callable[[], Message]


def good_publish() -> activities.PublishActivityRequest:
    return activities.PublishActivityRequest(activity=Activity(actor="alice", verb="post"))


RPCS = {
    rpc.method: rpc
    for rpc in (
        Rpc("activities", "PublishActivity", good_publish),
        Rpc(
            "activities",
            "BatchPublishActivities",
            lambda: activities.BatchPublishActivitiesRequest(requests=[good_publish()]),
        ),
        Rpc("activities", "GetActivity", lambda: activities.GetActivityRequest(id=ID)),
        Rpc("activities", "GetDelivery", lambda: activities.GetDeliveryRequest(id=ID)),
        Rpc(
            "activities",
            "BatchGetActivities",
            lambda: activities.BatchGetActivitiesRequest(ids=[ID]),
        ),
        Rpc(
            "activities",
            "DeleteActivity",
            lambda: activities.DeleteActivityRequest(id=ID, actor="alice"),
        ),
        Rpc(
            "activities", "ListActivities", lambda: activities.ListActivitiesRequest(entity="alice")
        ),
        Rpc("follows", "Follow", lambda: follows.FollowRequest(follower="bob", followee="alice")),
        Rpc(
            "follows", "Unfollow", lambda: follows.UnfollowRequest(follower="bob", followee="alice")
        ),
        Rpc(
            "follows",
            "BatchFollow",
            lambda: follows.BatchFollowRequest(
                requests=[follows.FollowRequest(follower="bob", followee="alice")]
            ),
        ),
        Rpc("follows", "ListFollowers", lambda: follows.ListFollowersRequest(entity="alice")),
        Rpc("follows", "ListFollowing", lambda: follows.ListFollowingRequest(entity="alice")),
        Rpc(
            "follows",
            "BatchGetRelationships",
            lambda: follows.BatchGetRelationshipsRequest(entity="alice", others=["bob"]),
        ),
        Rpc("follows", "GetFollowCounts", lambda: follows.GetFollowCountsRequest(entity="alice")),
        Rpc("feeds", "GetFeed", lambda: feeds.GetFeedRequest(user="bob")),
        Rpc(
            "subscriptions", "SubscribeFeed", lambda: subscriptions.SubscribeFeedRequest(user="bob")
        ),
        Rpc(
            "subscriptions",
            "SubscribeActivities",
            lambda: subscriptions.SubscribeActivitiesRequest(entity="repo:x"),
        ),
        Rpc("subscriptions", "SubscribeAll", subscriptions.SubscribeAllRequest),
        Rpc(
            "subscriptions", "GetFeedEvents", lambda: subscriptions.GetFeedEventsRequest(user="bob")
        ),
        Rpc("admin", "VerifyFeed", lambda: admin.VerifyFeedRequest(user="bob")),
        Rpc("admin", "RebuildFeed", lambda: admin.RebuildFeedRequest(user="bob")),
        Rpc("admin", "GetFeedStats", lambda: admin.GetFeedStatsRequest(user="bob")),
        Rpc("admin", "GetFanoutStatus", admin.GetFanoutStatusRequest),
        Rpc("admin", "GetServerStatus", admin.GetServerStatusRequest),
        Rpc("admin", "ListDeadLetters", admin.ListDeadLettersRequest),
        Rpc(
            "admin",
            "ReplayDeadLetters",
            lambda: admin.ReplayDeadLettersRequest(ids=[LETTER]),
        ),
        Rpc(
            "admin",
            "DiscardDeadLetters",
            lambda: admin.DiscardDeadLettersRequest(ids=[LETTER]),
        ),
    )
}


def assign(message: Any, path: str, value: Any) -> None:
    """Set a field by its path (`activity.to[3]`) and create the messages and entries before it."""
    *parents, last_step = path.split(".")
    for step in parents:
        name, index = split_step(step)
        message = getattr(message, name)
        if index is not None:
            while len(message) <= index:
                message.add(url="https://example.org")
            message = message[index]
    name, index = split_step(last_step)
    if index is not None:
        field = getattr(message, name)
        while len(field) <= index:
            field.append(f"entry {len(field)}")
        field[index] = value
    elif isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    elif isinstance(value, list):
        del getattr(message, name)[:]
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def split_step(step: str) -> tuple[str, int | None]:
    """Split a step of a path into the field's name and the index, if it has one."""
    name, _, index = step.partition("[")
    return name, int(index[:-1]) if index else None


#: Methods that accept an empty request.
NOTHING_REQUIRED = {"GetFanoutStatus", "GetServerStatus", "ListDeadLetters", "SubscribeAll"}
