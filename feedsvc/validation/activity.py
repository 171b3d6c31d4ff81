"""The rules of an activity that a caller publishes."""

import math
import re

from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity, Attachment, Audience, Ref
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from feedsvc.contract_limits import (
    ACTIVITY_BYTES,
    ADDRESSEES,
    ATTACHMENTS,
    CONTENT_BYTES,
    EXTERNAL_ID_BYTES,
    EXTRA_BYTES,
    EXTRA_DEPTH,
    LAST_NANO,
    LAST_SECOND,
    MEDIA_TYPE_BYTES,
    NAME_BYTES,
    REF_ID_BYTES,
    TYPE_BYTES,
    URL_BYTES,
    VERB_BYTES,
)
from feedsvc.core import ids
from feedsvc.validation.checks import FieldChecks

#: The tag of a Value's ``number_value``, and eight bytes whose exponent has all bits set, as in NaN
#: and the infinities.
_MAY_BE_NO_NUMBER = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)


def check_activity(checks: FieldChecks, activity: Activity) -> None:
    """Check the field ``activity`` of a request."""
    checks.entity("activity.actor", activity.actor)
    checks.text("activity.verb", activity.verb, VERB_BYTES, required=True)
    checks.text("activity.external_id", activity.external_id, EXTERNAL_ID_BYTES)
    for name in ("object", "target"):
        if activity.HasField(name):
            _check_ref(checks, f"activity.{name}", getattr(activity, name))
    if activity.to:
        checks.distinct_entities("activity.to", activity.to, ADDRESSEES)
    if activity.mentions:
        checks.distinct_entities("activity.mentions", activity.mentions, ADDRESSEES)
    if activity.audience not in Audience.values():
        checks.refuse("activity.audience", "must be a value of Audience")
    if activity.audience == AUDIENCE_TO_ONLY and not activity.to:
        checks.refuse("activity.to", "is required with AUDIENCE_TO_ONLY")
    checks.text("activity.content", activity.content, CONTENT_BYTES, allow_control=True)
    if len(activity.attachments) > ATTACHMENTS:
        checks.refuse("activity.attachments", f"must have at most {ATTACHMENTS} entries")
    for index, attachment in enumerate(activity.attachments[:ATTACHMENTS]):
        _check_attachment(checks, f"activity.attachments[{index}]", attachment)
    _check_extra(checks, activity)
    _check_publish_time(checks, activity)
    if not checks.violations and activity.ByteSize() > ACTIVITY_BYTES:
        checks.refuse("activity", f"must have at most {ACTIVITY_BYTES} bytes serialised")


def _check_ref(checks: FieldChecks, path: str, ref: Ref) -> None:
    match ref.WhichOneof("subject"):
        case "id":
            checks.text(f"{path}.id", ref.id, REF_ID_BYTES, required=True)
        case "entity":
            checks.entity(f"{path}.entity", ref.entity)
        case "activity_id":
            checks.activity_id(f"{path}.activity_id", ref.activity_id)
        case _:
            checks.refuse(f"{path}.subject", "is required: one of id, entity and activity_id")
    checks.text(f"{path}.type", ref.type, TYPE_BYTES, allow_control=True)
    checks.text(f"{path}.name", ref.name, NAME_BYTES, allow_control=True)
    checks.text(f"{path}.url", ref.url, URL_BYTES, allow_control=True)


def _check_attachment(checks: FieldChecks, path: str, attachment: Attachment) -> None:
    checks.text(f"{path}.type", attachment.type, TYPE_BYTES, allow_control=True)
    checks.text(f"{path}.url", attachment.url, URL_BYTES, required=True, allow_control=True)
    checks.text(f"{path}.media_type", attachment.media_type, MEDIA_TYPE_BYTES, allow_control=True)
    checks.text(f"{path}.name", attachment.name, NAME_BYTES, allow_control=True)


def _check_extra(checks: FieldChecks, activity: Activity) -> None:
    if not activity.HasField("extra"):
        return
    serialised = activity.extra.SerializeToString()
    if len(serialised) > EXTRA_BYTES:
        checks.refuse("activity.extra", f"must have at most {EXTRA_BYTES} bytes serialised")
    elif _may_be_deep(serialised) and _depth(activity.extra) > EXTRA_DEPTH:
        checks.refuse("activity.extra", f"must be at most {EXTRA_DEPTH} levels deep")
    elif _MAY_BE_NO_NUMBER.search(serialised):
        _check_numbers(checks, "activity.extra", activity.extra)


def _may_be_deep(serialised: bytes) -> bool:
    """Return False for a Struct that is certainly shallow, so that no check has to walk it.

    Each level but the first has a field with the tag of `struct_value` or `list_value`.
    """
    return serialised.count(b"\x2a") + serialised.count(b"\x32") >= EXTRA_DEPTH


def _depth(value: Struct | ListValue | Value) -> int:
    """Return the number of levels of Structs and lists."""
    if isinstance(value, Struct):
        return 1 + max((_depth(entry) for entry in value.fields.values()), default=0)
    if isinstance(value, ListValue):
        return 1 + max((_depth(entry) for entry in value.values), default=0)
    if value.HasField("struct_value"):
        return _depth(value.struct_value)
    return _depth(value.list_value) if value.HasField("list_value") else 0


def _check_numbers(checks: FieldChecks, path: str, value: Struct | ListValue | Value) -> None:
    """Refuse numbers that JSON cannot write. The value is not deep: its depth has been checked."""
    if isinstance(value, Struct):
        for name in value.fields:
            _check_numbers(checks, f"{path}.{name}", value.fields[name])
    elif isinstance(value, ListValue):
        for index, entry in enumerate(value.values):
            _check_numbers(checks, f"{path}[{index}]", entry)
    elif value.HasField("struct_value"):
        _check_numbers(checks, path, value.struct_value)
    elif value.HasField("list_value"):
        _check_numbers(checks, path, value.list_value)
    elif value.HasField("number_value") and not math.isfinite(value.number_value):
        checks.refuse(path, "must be a finite number: JSON has no NaN and no Infinity")


def _check_publish_time(checks: FieldChecks, activity: Activity) -> None:
    if not activity.HasField("publish_time"):
        return
    time = activity.publish_time
    if not 0 <= time.nanos <= LAST_NANO or time.seconds > LAST_SECOND:
        checks.refuse("activity.publish_time", "must be a valid timestamp")
    elif time.seconds * 1000 + time.nanos // 1_000_000 < ids.FIRST_MS:
        checks.refuse("activity.publish_time", "must not be before 1985-02-09T22:45:58.204Z")
