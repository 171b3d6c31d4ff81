"""Answers put together from stored bytes equal answers that are serialised field by field."""

import struct
import zlib

import pytest
from activityfeed.v1.activity_pb2 import (
    AUDIENCE_FOLLOWERS,
    AUDIENCE_TO_ONLY,
    Activity,
    Attachment,
    Ref,
    ViewedActivity,
)
from activityfeed.v1.feed_pb2 import FeedItem
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from feedsvc import wire
from feedsvc.core import ids

TEXTS = st.text(max_size=4)
NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(["a" * 127, "b" * 128, "é" * 128])
TIMES = st.builds(
    Timestamp, seconds=st.integers(0, 253_402_300_799), nanos=st.integers(0, 999_999_999)
)
REFS = st.builds(Ref, id=NAMES, type=TEXTS, name=TEXTS, url=TEXTS)
EXTRA = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def activities(draw: st.DrawFn) -> Activity:
    """Make activities as the store holds them: without an id."""
    activity = Activity(
        actor=draw(NAMES),
        external_id=draw(st.just("") | NAMES),
        verb=draw(NAMES),
        object=draw(st.none() | REFS),
        target=draw(st.none() | REFS),
        to=draw(st.lists(NAMES, max_size=3)),
        mentions=draw(st.lists(NAMES, max_size=3)),
        audience=draw(st.sampled_from([AUDIENCE_FOLLOWERS, AUDIENCE_TO_ONLY])),
        content=draw(TEXTS | st.just("x" * 16_384) | st.just("é" * 8_000)),
        attachments=draw(st.lists(st.builds(Attachment, url=NAMES, name=TEXTS), max_size=2)),
        publish_time=draw(st.none() | TIMES),
    )
    for name, value in draw(st.dictionaries(st.text(max_size=8), EXTRA, max_size=3)).items():
        activity.extra[name] = value
    if draw(st.booleans()):  # a field of a later version of the contract
        activity.MergeFromString(b"\xc2\x3e" + wire.varint(3) + b"new")
    return activity


ACTIVITY_IDS = st.builds(
    ids.make, st.integers(ids.FIRST_MS, ids.LAST_MS), st.integers(0, 8_191), st.integers(0, 255)
)


NOW_MS = 1_700_000_000_123


def framed(activity: Activity) -> bytes:
    """Return the frame of an activity, and leave the activity as it is."""
    copy = Activity()
    copy.CopyFrom(activity)
    return wire.frame_activity(copy, NOW_MS).frame


def answered(activity: Activity, activity_id: int) -> Activity:
    """Return the activity that answers hold, made field by field."""
    answer = Activity()
    answer.CopyFrom(activity)
    answer.id = str(activity_id)
    answer.etag = "v1"
    if answer.HasField("publish_time"):
        answer.create_time.FromMilliseconds(NOW_MS)
    else:
        answer.publish_time.FromMilliseconds(ids.ms_of(activity_id))
        answer.create_time.FromMilliseconds(ids.ms_of(activity_id))
    return answer


def item(activity: Activity, activity_id: int, via: list[str]) -> FeedItem:
    return FeedItem(
        item_id=str(activity_id),
        sort_key=activity_id.to_bytes(8),
        via=via,
        activity=ViewedActivity(activity=answered(activity, activity_id)),
    )


@given(activities(), ACTIVITY_IDS)
def test_answer_has_every_field_that_the_service_gives(
    activity: Activity, activity_id: int
) -> None:
    frame = framed(activity)
    assert Activity.FromString(wire.body(frame)) == activity
    expected = answered(activity, activity_id)
    assert Activity.FromString(wire.activity(activity_id, frame)) == expected
    viewed = ViewedActivity.FromString(wire.viewed_activity(activity_id, frame))
    assert viewed == ViewedActivity(activity=expected)


@given(activities(), ACTIVITY_IDS, st.integers(2, 65_535))
def test_each_change_gives_another_etag(
    activity: Activity, activity_id: int, revision: int
) -> None:
    frame = framed(activity)
    changed = frame[:7] + revision.to_bytes(2) + frame[9:]
    etags = {
        Activity.FromString(wire.activity(activity_id, revised)).etag
        for revised in (frame, changed)
    }
    assert etags == {"v1", f"v{revision}"}


@given(activities(), TIMES)
def test_activities_that_differ_only_in_time_are_comparable_as_equal(
    activity: Activity, time: Timestamp
) -> None:
    other = Activity()
    other.CopyFrom(activity)
    other.publish_time.CopyFrom(time)
    earlier = wire.frame_activity(other, NOW_MS)
    later = wire.frame_activity(activity, NOW_MS + 1)
    assert earlier.comparable == later.comparable


@given(activities(), ACTIVITY_IDS, st.lists(NAMES, min_size=1, max_size=4))
def test_item_of_one_route_or_several_equals_the_serialised_message(
    activity: Activity, activity_id: int, via: list[str]
) -> None:
    frame = framed(activity)
    parsed = FeedItem.FromString(wire.feed_item(activity_id, frame))
    assert parsed == item(activity, activity_id, [activity.actor])
    parsed = FeedItem.FromString(wire.feed_item_via(activity_id, frame, via))
    assert parsed == item(activity, activity_id, via)


@given(activities())
def test_header_has_the_offsets_hashes_and_flags_of_the_activity(activity: Activity) -> None:
    frame = framed(activity)
    head, *hashes = struct.unpack_from(">9s4I", frame)
    version, flags, header, begin, end, revision = struct.unpack(">BBBHHH", head)
    assert (version, revision) == (wire.VERSION, 1)
    assert header == 25 + 6 * activity.HasField("publish_time")
    object_name = f"id\0{activity.object.id}" if activity.HasField("object") else ""
    texts = (activity.verb, activity.actor, object_name, f"{activity.verb}\0{object_name}")
    assert hashes == [zlib.crc32(text.encode()) for text in texts]
    assert bool(flags & wire.HAS_TIME) == activity.HasField("publish_time")
    assert wire.has_to(frame) == bool(activity.to)
    body = frame[header:]
    assert Activity.FromString(body[:begin]) == Activity(external_id=activity.external_id)
    assert Activity.FromString(body[begin:end]) == Activity(actor=activity.actor)
    assert wire.actor(frame) == activity.actor


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2_047, 2_048, 16_383, 16_384, 1 << 35])
def test_varint_has_seven_bits_a_byte_and_a_continuation_bit(number: int) -> None:
    varint = wire.varint(number)
    assert sum((byte & 0x7F) << 7 * index for index, byte in enumerate(varint)) == number
    assert [bool(byte & 0x80) for byte in varint] == [True] * (len(varint) - 1) + [False]


@pytest.mark.parametrize("length", [1, 126, 127, 128, 129, 130, 256])
def test_actor_of_any_length_is_read_back(length: int) -> None:
    activity = Activity(actor="a" * length, external_id="e" * length)
    assert wire.actor(framed(activity)) == activity.actor
