"""Answers put together from stored bytes are what serialising them field by field would give."""

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
    """Activities as they are stored: without an id."""
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
    if draw(st.booleans()):  # sent by a client of a later version of the contract
        activity.MergeFromString(b"\xc2\x3e" + wire.varint(3) + b"new")
    return activity


ACTIVITY_IDS = st.builds(
    ids.make, st.integers(ids.FIRST_MS, ids.LAST_MS), st.integers(0, 8_191), st.integers(0, 255)
)


NOW_MS = 1_700_000_000_123


def framed(activity: Activity) -> bytes:
    """The frame of an activity, which stays as it is."""
    sent = Activity()
    sent.CopyFrom(activity)
    return wire.frame_activity(sent, NOW_MS).frame


def shown(activity: Activity, activity_id: int) -> Activity:
    """The activity that answers show, made field by field."""
    made = Activity()
    made.CopyFrom(activity)
    made.id = str(activity_id)
    made.etag = "v1"
    if made.HasField("publish_time"):
        made.create_time.FromMilliseconds(NOW_MS)
    else:
        made.publish_time.FromMilliseconds(ids.ms_of(activity_id))
        made.create_time.FromMilliseconds(ids.ms_of(activity_id))
    return made


def item(activity: Activity, activity_id: int, via: list[str]) -> FeedItem:
    return FeedItem(
        item_id=str(activity_id),
        sort_key=activity_id.to_bytes(8),
        via=via,
        activity=ViewedActivity(activity=shown(activity, activity_id)),
    )


@given(activities(), ACTIVITY_IDS)
def test_a_stored_activity_is_shown_with_all_that_the_service_gives(
    activity: Activity, activity_id: int
) -> None:
    frame = framed(activity)
    assert Activity.FromString(wire.body(frame)) == activity
    expected = shown(activity, activity_id)
    assert Activity.FromString(wire.activity(activity_id, frame)) == expected
    viewed = ViewedActivity.FromString(wire.viewed_activity(activity_id, frame))
    assert viewed == ViewedActivity(activity=expected)


@given(activities(), ACTIVITY_IDS, st.integers(2, 65_535))
def test_the_etag_is_another_one_after_each_change(
    activity: Activity, activity_id: int, revision: int
) -> None:
    frame = framed(activity)
    changed = frame[:7] + revision.to_bytes(2) + frame[9:]
    etags = {Activity.FromString(wire.activity(activity_id, one)).etag for one in (frame, changed)}
    assert etags == {"v1", f"v{revision}"}


@given(activities(), TIMES)
def test_activities_are_the_same_whenever_they_were_done(
    activity: Activity, time: Timestamp
) -> None:
    other = Activity()
    other.CopyFrom(activity)
    other.publish_time.CopyFrom(time)
    earlier = wire.frame_activity(other, NOW_MS)
    later = wire.frame_activity(activity, NOW_MS + 1)
    assert earlier.comparable == later.comparable


@given(st.lists(st.tuples(ACTIVITY_IDS, activities()), max_size=4))
def test_items_are_put_together_as_messages_would_be(found: list[tuple[int, Activity]]) -> None:
    for one, activity in found:
        made = FeedItem.FromString(wire.feed_item(one, framed(activity)))
        assert made == item(activity, one, [activity.actor])


@given(activities(), ACTIVITY_IDS, st.lists(NAMES, min_size=1, max_size=4))
def test_an_item_may_have_several_routes(
    activity: Activity, activity_id: int, via: list[str]
) -> None:
    made = FeedItem.FromString(wire.feed_item_via(activity_id, framed(activity), via))
    assert made == item(activity, activity_id, via)


@given(activities())
def test_the_header_says_what_scripts_and_readers_ask_for(activity: Activity) -> None:
    frame = framed(activity)
    head, *hashes = struct.unpack_from(">9s4I", frame)
    version, flags, header, begin, end, revision = struct.unpack(">BBBHHH", head)
    assert (version, revision) == (wire.VERSION, 1)
    assert header == 25 + 6 * activity.HasField("publish_time")
    about = f"id\0{activity.object.id}" if activity.HasField("object") else ""
    texts = (activity.verb, activity.actor, about, f"{activity.verb}\0{about}")
    assert hashes == [zlib.crc32(text.encode()) for text in texts]
    assert bool(flags & wire.HAS_TIME) == activity.HasField("publish_time")
    assert wire.has_to(frame) == bool(activity.to)
    body = frame[header:]
    assert Activity.FromString(body[:begin]) == Activity(external_id=activity.external_id)
    assert Activity.FromString(body[begin:end]) == Activity(actor=activity.actor)
    assert wire.actor(frame) == activity.actor


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2_047, 2_048, 16_383, 16_384, 1 << 35])
def test_varints_are_those_of_the_wire(number: int) -> None:
    bytes_ = wire.varint(number)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(bytes_)) == number
    assert [bool(byte & 0x80) for byte in bytes_] == [True] * (len(bytes_) - 1) + [False]


@pytest.mark.parametrize("length", [1, 126, 127, 128, 129, 130, 256])
def test_names_of_every_length_are_read_back(length: int) -> None:
    activity = Activity(actor="a" * length, external_id="e" * length)
    assert wire.actor(framed(activity)) == activity.actor
