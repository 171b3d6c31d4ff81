"""The rules of each request of the contract."""

from collections.abc import Callable
from typing import Any

from activityfeed.admin.v1 import admin_service_pb2
from activityfeed.v1 import (
    activity_service_pb2,
    feed_service_pb2,
    follow_service_pb2,
    subscription_service_pb2,
)
from google.protobuf.message import Message

from feedsvc.contract_limits import (
    BATCH_GET_ENTRIES,
    DEAD_LETTER_BATCH_IDS,
    FOLLOW_BATCH_ENTRIES,
    PUBLISH_BATCH_ENTRIES,
)
from feedsvc.validation.activity import check_activity
from feedsvc.validation.checks import FieldChecks

# Activities.


def _check_publish(
    checks: FieldChecks, request: activity_service_pb2.PublishActivityRequest
) -> None:
    if request.HasField("activity"):
        check_activity(checks, request.activity)
    else:
        checks.refuse("activity", "is required")
    checks.request_id(request.request_id)


def _check_get_activity(
    checks: FieldChecks,
    request: activity_service_pb2.GetActivityRequest | activity_service_pb2.GetDeliveryRequest,
) -> None:
    checks.activity_id("id", request.id)
    checks.viewer(request)


def _check_get_activities(
    checks: FieldChecks, request: activity_service_pb2.BatchGetActivitiesRequest
) -> None:
    # Each id has a result of its own, which refuses the id if it is malformed.
    checks.list_size("ids", request.ids, BATCH_GET_ENTRIES)
    checks.viewer(request)


def _check_delete_activity(
    checks: FieldChecks, request: activity_service_pb2.DeleteActivityRequest
) -> None:
    checks.activity_id("id", request.id)
    checks.entity("actor", request.actor)
    checks.request_id(request.request_id)


def _check_list_activities(
    checks: FieldChecks, request: activity_service_pb2.ListActivitiesRequest
) -> None:
    _check_entity_and_viewer(checks, request)
    checks.page_size(request)
    checks.view(request)


def _check_entity_and_viewer(checks: FieldChecks, request: Any) -> None:
    checks.entity("entity", request.entity)
    checks.viewer(request)


# Follows.


def _check_follow(checks: FieldChecks, request: follow_service_pb2.FollowRequest) -> None:
    checks.entity("follower", request.follower)
    checks.entity("followee", request.followee)
    if request.follower == request.followee and request.follower:
        checks.refuse("followee", "must be another entity than follower")
    checks.request_id(request.request_id)


def _check_unfollow(checks: FieldChecks, request: follow_service_pb2.UnfollowRequest) -> None:
    checks.entity("follower", request.follower)
    checks.entity("followee", request.followee)
    checks.request_id(request.request_id)


def _check_list_edges(
    checks: FieldChecks,
    request: follow_service_pb2.ListFollowersRequest | follow_service_pb2.ListFollowingRequest,
) -> None:
    _check_entity_and_viewer(checks, request)
    checks.page_size(request)


def _check_get_relationships(
    checks: FieldChecks, request: follow_service_pb2.BatchGetRelationshipsRequest
) -> None:
    checks.entity("entity", request.entity)
    checks.list_size("others", request.others, BATCH_GET_ENTRIES)
    for index, other in enumerate(request.others[:BATCH_GET_ENTRIES]):
        checks.entity(f"others[{index}]", other)
    checks.viewer(request)


# Feeds and subscriptions.


def _check_get_feed(checks: FieldChecks, request: feed_service_pb2.GetFeedRequest) -> None:
    checks.entity("user", request.user)
    checks.viewer(request)
    checks.page_size(request)
    checks.view(request)


def _check_subscribe_feed(
    checks: FieldChecks,
    request: subscription_service_pb2.SubscribeFeedRequest
    | subscription_service_pb2.AddFeedSubscription,
    prefix: str = "",
) -> None:
    checks.entity(f"{prefix}user", request.user)
    checks.viewer(request, prefix)
    if request.initial_page_size < 0:
        checks.refuse(f"{prefix}initial_page_size", "must not be negative")
    elif request.initial_page_size and request.resume_token:
        checks.refuse(f"{prefix}initial_page_size", "must not be given with a resume_token")
    checks.view(request, prefix)


def _check_subscribe_feeds(
    checks: FieldChecks, request: subscription_service_pb2.SubscribeFeedsRequest
) -> None:
    match request.WhichOneof("action"):
        case "add":
            checks.subscription_id("add.subscription_id", request.add.subscription_id)
            _check_subscribe_feed(checks, request.add, "add.")
        case "remove":
            checks.subscription_id("remove.subscription_id", request.remove.subscription_id)
        case _:
            checks.refuse("action", "is required")


def _check_subscribe_activities(
    checks: FieldChecks, request: subscription_service_pb2.SubscribeActivitiesRequest
) -> None:
    _check_entity_and_viewer(checks, request)
    checks.view(request)


def _check_subscribe_all(
    checks: FieldChecks, request: subscription_service_pb2.SubscribeAllRequest
) -> None:
    checks.view(request)


def _check_get_feed_events(
    checks: FieldChecks, request: subscription_service_pb2.GetFeedEventsRequest
) -> None:
    checks.entity("user", request.user)
    checks.viewer(request)
    checks.view(request)


# Administration.


def _check_nothing(checks: FieldChecks, request: Any) -> None:
    """Accept a request without fields."""


def _check_user(checks: FieldChecks, request: Any) -> None:
    checks.entity("user", request.user)


def _check_list_dead_letters(
    checks: FieldChecks, request: admin_service_pb2.ListDeadLettersRequest
) -> None:
    checks.page_size(request)


def _check_dead_letter_ids(
    checks: FieldChecks,
    request: admin_service_pb2.ReplayDeadLettersRequest
    | admin_service_pb2.DiscardDeadLettersRequest,
) -> None:
    checks.list_size("ids", request.ids, DEAD_LETTER_BATCH_IDS)


#: The rules of a request by its type. Batches are not here: see MAX_BATCH_ENTRIES.
RULES: dict[type[Message], Callable[[FieldChecks, Any], None]] = {
    activity_service_pb2.PublishActivityRequest: _check_publish,
    activity_service_pb2.GetActivityRequest: _check_get_activity,
    activity_service_pb2.GetDeliveryRequest: _check_get_activity,
    activity_service_pb2.BatchGetActivitiesRequest: _check_get_activities,
    activity_service_pb2.DeleteActivityRequest: _check_delete_activity,
    activity_service_pb2.ListActivitiesRequest: _check_list_activities,
    follow_service_pb2.FollowRequest: _check_follow,
    follow_service_pb2.UnfollowRequest: _check_unfollow,
    follow_service_pb2.ListFollowersRequest: _check_list_edges,
    follow_service_pb2.ListFollowingRequest: _check_list_edges,
    follow_service_pb2.BatchGetRelationshipsRequest: _check_get_relationships,
    follow_service_pb2.GetFollowCountsRequest: _check_entity_and_viewer,
    feed_service_pb2.GetFeedRequest: _check_get_feed,
    subscription_service_pb2.SubscribeFeedRequest: _check_subscribe_feed,
    subscription_service_pb2.SubscribeFeedsRequest: _check_subscribe_feeds,
    subscription_service_pb2.SubscribeActivitiesRequest: _check_subscribe_activities,
    subscription_service_pb2.SubscribeAllRequest: _check_subscribe_all,
    subscription_service_pb2.GetFeedEventsRequest: _check_get_feed_events,
    admin_service_pb2.GetFanoutStatusRequest: _check_nothing,
    admin_service_pb2.GetServerStatusRequest: _check_nothing,
    admin_service_pb2.VerifyFeedRequest: _check_user,
    admin_service_pb2.RebuildFeedRequest: _check_user,
    admin_service_pb2.GetFeedStatsRequest: _check_user,
    admin_service_pb2.ListDeadLettersRequest: _check_list_dead_letters,
    admin_service_pb2.ReplayDeadLettersRequest: _check_dead_letter_ids,
    admin_service_pb2.DiscardDeadLettersRequest: _check_dead_letter_ids,
}

#: Entries of a batch at most, by the type of an entry.
MAX_BATCH_ENTRIES: dict[type[Message], int] = {
    activity_service_pb2.PublishActivityRequest: PUBLISH_BATCH_ENTRIES,
    follow_service_pb2.FollowRequest: FOLLOW_BATCH_ENTRIES,
}
