"""What a request may hold: the rules of the contract, checked before anything is done.

``check`` finds the rules by the type of the request and raises InvalidRequest with every violation.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from activityfeed.admin.v1 import admin_service_pb2
from activityfeed.v1 import (
    activity_pb2,
    activity_service_pb2,
    feed_service_pb2,
    follow_service_pb2,
    subscription_service_pb2,
    view_pb2,
)
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.unknown_fields import UnknownFieldSet

from feedsvc.batches import Batch
from feedsvc.bounds import BATCH_BYTES
from feedsvc.core import ids
from feedsvc.errors import InvalidRequest, Violation

#: Bytes of any request but a batch.
REQUEST_BYTES = 1_048_576
ENTITY_BYTES = 256
REQUEST_ID_BYTES = 128
SUBSCRIPTION_ID_BYTES = 128
ACTIVITY_BYTES = 32_768
TEXT_BYTES = 16_384
EXTRA_DEPTH = 16
ADDRESSED = 32
ATTACHMENTS = 16
BATCH_PUBLISH = 500
BATCH_FOLLOW = 1_000
BATCH_READ = 100
BATCH_REPLAY = 1_000
LAST_NANO = 999_999_999
LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that a Timestamp may hold

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: The tag of a Value's number_value and eight bytes whose exponent has all bits set.
_MAY_BE_NO_NUMBER = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
_LETTER = re.compile(r"(0|[1-9][0-9]{0,2})-(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")


class _Check:
    """Collects violations."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def add(self, field: str, rule: str) -> None:
        self.violations.append(Violation(field, rule))

    def text(
        self, field: str, value: str, most: int, *, required: bool = False, control: bool = False
    ) -> None:
        """A text of at most ``most`` bytes; ``control`` allows control characters."""
        if not value:
            if required:
                self.add(field, "is required")
        elif len(value) * 4 > most and len(value.encode()) > most:
            self.add(field, f"must have at most {most} bytes of UTF-8")
        elif not control and _CONTROL.search(value):
            self.add(field, "must not contain control characters")

    def entity(self, field: str, value: str, *, required: bool = True) -> None:
        self.text(field, value, ENTITY_BYTES, required=required)

    def entities(self, field: str, values: Iterable[str], most: int) -> None:
        names = list(values)
        if len(names) > most:
            self.add(field, f"must have at most {most} entries")
            return
        seen: set[str] = set()
        for number, name in enumerate(names):
            self.entity(f"{field}[{number}]", name)
            if name in seen:
                self.add(f"{field}[{number}]", "must not repeat an earlier entry")
            seen.add(name)

    def request_id(self, field: str, value: str) -> None:
        self.text(field, value, REQUEST_ID_BYTES, control=True)

    def activity_id(self, field: str, value: str) -> None:
        if ids.parse(value) is None:
            self.add(field, "must be an activity id: 19 decimal digits")

    def page(self, request: Any) -> None:
        if request.page_size < 0:
            self.add("page_size", "must not be negative")

    def count(self, field: str, values: Any, most: int) -> None:
        if not values:
            self.add(field, "must have at least one entry")
        elif len(values) > most:
            self.add(field, f"must have at most {most} entries")


def _activity(check: _Check, activity: activity_pb2.Activity) -> None:
    check.entity("activity.actor", activity.actor)
    check.text("activity.verb", activity.verb, 64, required=True)
    check.text("activity.external_id", activity.external_id, 256)
    for name in ("object", "target"):
        if activity.HasField(name):
            _ref(check, f"activity.{name}", getattr(activity, name))
    if activity.to:
        check.entities("activity.to", activity.to, ADDRESSED)
    if activity.mentions:
        check.entities("activity.mentions", activity.mentions, ADDRESSED)
    if activity.audience not in activity_pb2.Audience.values():
        check.add("activity.audience", "must be a value of Audience")
    if activity.audience == activity_pb2.AUDIENCE_TO_ONLY and not activity.to:
        check.add("activity.to", "is required with AUDIENCE_TO_ONLY")
    check.text("activity.content", activity.content, TEXT_BYTES, control=True)
    if len(activity.attachments) > ATTACHMENTS:
        check.add("activity.attachments", f"must have at most {ATTACHMENTS} entries")
    for number, attachment in enumerate(activity.attachments[:ATTACHMENTS]):
        _attachment(check, f"activity.attachments[{number}]", attachment)
    _extra(check, activity)
    _publish_time(check, activity)
    if not check.violations and activity.ByteSize() > ACTIVITY_BYTES:
        check.add("activity", f"must have at most {ACTIVITY_BYTES} bytes serialised")


def _attachment(check: _Check, place: str, attachment: activity_pb2.Attachment) -> None:
    check.text(f"{place}.type", attachment.type, 64, control=True)
    check.text(f"{place}.url", attachment.url, 2_048, required=True, control=True)
    check.text(f"{place}.media_type", attachment.media_type, 255, control=True)
    check.text(f"{place}.name", attachment.name, 512, control=True)


def _extra(check: _Check, activity: activity_pb2.Activity) -> None:
    if not activity.HasField("extra"):
        return
    serialised = activity.extra.SerializeToString()
    if len(serialised) > TEXT_BYTES:
        check.add("activity.extra", f"must have at most {TEXT_BYTES} bytes serialised")
    elif _may_be_deep(serialised) and _depth(activity.extra) > EXTRA_DEPTH:
        check.add("activity.extra", f"must be at most {EXTRA_DEPTH} levels deep")
    elif _MAY_BE_NO_NUMBER.search(serialised):
        _numbers(check, "activity.extra", activity.extra)


def _may_be_deep(serialised: bytes) -> bool:
    """Tell a Struct that is shallow for sure from one that has to be looked at.

    Each level but the first has a field with the tag of `struct_value` or `list_value`.
    """
    return serialised.count(b"\x2a") + serialised.count(b"\x32") >= EXTRA_DEPTH


def _numbers(check: _Check, path: str, value: Struct | ListValue | Value) -> None:
    """Find numbers that JSON cannot write; the value is not deep."""
    if isinstance(value, Struct):
        for name in value.fields:
            _numbers(check, f"{path}.{name}", value.fields[name])
    elif isinstance(value, ListValue):
        for number, entry in enumerate(value.values):
            _numbers(check, f"{path}[{number}]", entry)
    elif value.HasField("struct_value"):
        _numbers(check, path, value.struct_value)
    elif value.HasField("list_value"):
        _numbers(check, path, value.list_value)
    elif value.HasField("number_value") and not math.isfinite(value.number_value):
        check.add(path, "must be a finite number: JSON has no NaN and no Infinity")


def _publish_time(check: _Check, activity: activity_pb2.Activity) -> None:
    if not activity.HasField("publish_time"):
        return
    time = activity.publish_time
    if not 0 <= time.nanos <= LAST_NANO or time.seconds > LAST_SECOND:
        check.add("activity.publish_time", "must be a valid timestamp")
    elif time.seconds * 1000 + time.nanos // 1_000_000 < ids.FIRST_MS:
        check.add("activity.publish_time", "must not be before 1985-02-09T22:45:58.204Z")


def _ref(check: _Check, field: str, ref: activity_pb2.Ref) -> None:
    match ref.WhichOneof("subject"):
        case "id":
            check.text(f"{field}.id", ref.id, 1_024, required=True)
        case "entity":
            check.entity(f"{field}.entity", ref.entity)
        case "activity_id":
            check.activity_id(f"{field}.activity_id", ref.activity_id)
        case _:
            check.add(f"{field}.subject", "is required: one of id, entity and activity_id")
    check.text(f"{field}.type", ref.type, 64, control=True)
    check.text(f"{field}.name", ref.name, 512, control=True)
    check.text(f"{field}.url", ref.url, 2_048, control=True)


def _depth(value: Struct | ListValue | Value) -> int:
    if isinstance(value, Struct):
        return 1 + max((_depth(entry) for entry in value.fields.values()), default=0)
    if isinstance(value, ListValue):
        return 1 + max((_depth(entry) for entry in value.values), default=0)
    if value.HasField("struct_value"):
        return _depth(value.struct_value)
    return _depth(value.list_value) if value.HasField("list_value") else 0


def _publish(check: _Check, request: activity_service_pb2.PublishActivityRequest) -> None:
    if request.HasField("activity"):
        _activity(check, request.activity)
    else:
        check.add("activity", "is required")
    check.request_id("request_id", request.request_id)


def _view(check: _Check, field: str, request: Any) -> None:
    """A view that this server does not know must not be taken for another one."""
    if request.HasField("view"):
        view: view_pb2.View = request.view
        if len(UnknownFieldSet(view)) or len(UnknownFieldSet(view.flat)):
            check.add(field, "must be a view that this server knows: flat")


def _get_activity(
    check: _Check,
    request: activity_service_pb2.GetActivityRequest | activity_service_pb2.GetDeliveryRequest,
) -> None:
    check.activity_id("id", request.id)
    check.entity("viewer", request.viewer, required=False)


def _batch_get(check: _Check, request: activity_service_pb2.BatchGetActivitiesRequest) -> None:
    check.count("ids", request.ids, BATCH_READ)
    check.entity("viewer", request.viewer, required=False)


def _delete(check: _Check, request: activity_service_pb2.DeleteActivityRequest) -> None:
    check.activity_id("id", request.id)
    check.entity("actor", request.actor)
    check.request_id("request_id", request.request_id)


def _list(check: _Check, request: Any) -> None:
    check.entity("entity", request.entity)
    check.entity("viewer", request.viewer, required=False)
    check.page(request)


def _list_activities(check: _Check, request: activity_service_pb2.ListActivitiesRequest) -> None:
    _list(check, request)
    _view(check, "view", request)


def _follow(check: _Check, request: follow_service_pb2.FollowRequest) -> None:
    check.entity("follower", request.follower)
    check.entity("followee", request.followee)
    if request.follower == request.followee and request.follower:
        check.add("followee", "must be another entity than follower")
    check.request_id("request_id", request.request_id)


def _unfollow(check: _Check, request: follow_service_pb2.UnfollowRequest) -> None:
    check.entity("follower", request.follower)
    check.entity("followee", request.followee)
    check.request_id("request_id", request.request_id)


def _relationships(check: _Check, request: follow_service_pb2.BatchGetRelationshipsRequest) -> None:
    check.entity("entity", request.entity)
    check.count("others", request.others, BATCH_READ)
    for number, other in enumerate(request.others[:BATCH_READ]):
        check.entity(f"others[{number}]", other)
    check.entity("viewer", request.viewer, required=False)


def _counts(check: _Check, request: follow_service_pb2.GetFollowCountsRequest) -> None:
    check.entity("entity", request.entity)
    check.entity("viewer", request.viewer, required=False)


def _feed(check: _Check, request: feed_service_pb2.GetFeedRequest) -> None:
    check.entity("user", request.user)
    check.entity("viewer", request.viewer, required=False)
    check.page(request)
    _view(check, "view", request)


def _subscribe(
    check: _Check,
    request: subscription_service_pb2.SubscribeFeedRequest
    | subscription_service_pb2.AddFeedSubscription,
    within: str = "",
) -> None:
    check.entity(f"{within}user", request.user)
    check.entity(f"{within}viewer", request.viewer, required=False)
    if request.initial_page_size < 0:
        check.add(f"{within}initial_page_size", "must not be negative")
    elif request.initial_page_size and request.resume_token:
        check.add(f"{within}initial_page_size", "must not be given with a resume_token")
    _view(check, f"{within}view", request)


def _subscription_id(check: _Check, field: str, value: str) -> None:
    check.text(field, value, SUBSCRIPTION_ID_BYTES, required=True, control=True)


def _subscribe_some(check: _Check, request: subscription_service_pb2.SubscribeFeedsRequest) -> None:
    match request.WhichOneof("action"):
        case "add":
            _subscription_id(check, "add.subscription_id", request.add.subscription_id)
            _subscribe(check, request.add, "add.")
        case "remove":
            name = request.remove.subscription_id
            _subscription_id(check, "remove.subscription_id", name)
        case _:
            check.add("action", "is required")


def _subscribe_outbox(
    check: _Check, request: subscription_service_pb2.SubscribeActivitiesRequest
) -> None:
    check.entity("entity", request.entity)
    check.entity("viewer", request.viewer, required=False)
    _view(check, "view", request)


def _subscribe_all(check: _Check, request: subscription_service_pb2.SubscribeAllRequest) -> None:
    _view(check, "view", request)


def _poll(check: _Check, request: subscription_service_pb2.GetFeedEventsRequest) -> None:
    check.entity("user", request.user)
    check.entity("viewer", request.viewer, required=False)
    _view(check, "view", request)


def _nothing(check: _Check, request: Any) -> None:
    """The request has no fields."""


def _admin(check: _Check, request: Any) -> None:
    check.entity("user", request.user)


def _dead_letters(check: _Check, request: admin_service_pb2.ListDeadLettersRequest) -> None:
    check.page(request)


def _letters(
    check: _Check,
    request: admin_service_pb2.ReplayDeadLettersRequest
    | admin_service_pb2.DiscardDeadLettersRequest,
) -> None:
    check.count("ids", request.ids, BATCH_REPLAY)


RULES: dict[type[Message], Callable[[_Check, Any], None]] = {
    activity_service_pb2.PublishActivityRequest: _publish,
    activity_service_pb2.GetActivityRequest: _get_activity,
    activity_service_pb2.GetDeliveryRequest: _get_activity,
    activity_service_pb2.BatchGetActivitiesRequest: _batch_get,
    activity_service_pb2.DeleteActivityRequest: _delete,
    activity_service_pb2.ListActivitiesRequest: _list_activities,
    follow_service_pb2.FollowRequest: _follow,
    follow_service_pb2.UnfollowRequest: _unfollow,
    follow_service_pb2.ListFollowersRequest: _list,
    follow_service_pb2.ListFollowingRequest: _list,
    follow_service_pb2.BatchGetRelationshipsRequest: _relationships,
    follow_service_pb2.GetFollowCountsRequest: _counts,
    feed_service_pb2.GetFeedRequest: _feed,
    subscription_service_pb2.SubscribeFeedRequest: _subscribe,
    subscription_service_pb2.SubscribeFeedsRequest: _subscribe_some,
    subscription_service_pb2.SubscribeActivitiesRequest: _subscribe_outbox,
    subscription_service_pb2.SubscribeAllRequest: _subscribe_all,
    subscription_service_pb2.GetFeedEventsRequest: _poll,
    admin_service_pb2.GetFanoutStatusRequest: _nothing,
    admin_service_pb2.VerifyFeedRequest: _admin,
    admin_service_pb2.RebuildFeedRequest: _admin,
    admin_service_pb2.GetFeedStatsRequest: _admin,
    admin_service_pb2.ListDeadLettersRequest: _dead_letters,
    admin_service_pb2.ReplayDeadLettersRequest: _letters,
    admin_service_pb2.DiscardDeadLettersRequest: _letters,
}


MOST_ENTRIES: dict[type[Message], int] = {
    activity_service_pb2.PublishActivityRequest: BATCH_PUBLISH,
    follow_service_pb2.FollowRequest: BATCH_FOLLOW,
}


def check(request: Any) -> None:
    """Raise InvalidRequest if a field of a message, or a batch as such, breaks its rule."""
    found = _Check()
    if isinstance(request, Batch):
        found.count("requests", request.entries, MOST_ENTRIES[request.entry])
        if request.size > BATCH_BYTES:
            found.add("requests", f"must have at most {BATCH_BYTES} bytes serialised, together")
    else:
        rules = RULES.get(type(request))
        if rules is None:
            if not isinstance(request, Message):
                return  # a stream, whose handler checks each request
            if request.DESCRIPTOR.file.package.startswith("activityfeed."):
                raise TypeError(f"{request.DESCRIPTOR.name} has no rules")
            return  # another package's: health, reflection
        rules(found, request)
    if found.violations:
        raise InvalidRequest(found.violations)


def decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    """Decode a message. Raises InvalidRequest; gRPC would send the decoder's text to the caller."""
    try:
        return decode(raw)
    except DecodeError:
        rule = "must be a well-formed message of its type, with strings in UTF-8"
        raise InvalidRequest([Violation("", rule)]) from None


def check_letter(letter_id: str) -> None:
    """Raises InvalidRequest if an id cannot be one of a dead letter."""
    if not _LETTER.fullmatch(letter_id):
        rule = "must be a dead letter's id: <shard>-<milliseconds>-<number>"
        raise InvalidRequest([Violation("id", rule)])
