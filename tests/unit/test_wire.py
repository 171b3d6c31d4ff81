"""Answers put together from stored bytes are what serialising them field by field would give."""

import struct

import pytest
from activityfeed.v1.activity_pb2 import (
    AUDIENCE_FOLLOWERS,
    AUDIENCE_TO_ONLY,
    Activity,
    Attachment,
    Ref,
)
from activityfeed.v1.feed_pb2 import FeedItem, FeedPage
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


def with_id(activity: Activity, activity_id: int) -> Activity:
    """The activity that answers show, made field by field."""
    shown = Activity()
    shown.CopyFrom(activity)
    shown.id = str(activity_id)
    if not shown.HasField("publish_time"):
        shown.publish_time.FromMilliseconds(ids.ms_of(activity_id))
    return shown


@given(activities(), ACTIVITY_IDS)
def test_a_stored_activity_is_shown_with_its_id_and_time(
    activity: Activity, activity_id: int
) -> None:
    frame = wire.frame(activity)
    assert Activity.FromString(wire.body(frame)) == activity
    shown = Activity.FromString(wire.activity(activity_id, frame))
    assert shown == with_id(activity, activity_id)


@given(st.lists(st.tuples(ACTIVITY_IDS, activities()), max_size=4))
def test_items_are_put_together_as_messages_would_be(found: list[tuple[int, Activity]]) -> None:
    raw = b"".join(wire.feed_item(one, wire.frame(activity)) for one, activity in found)
    assert FeedPage.FromString(raw) == FeedPage(
        items=[
            FeedItem(activity=with_id(activity, one), via=[activity.actor])
            for one, activity in found
        ]
    )


@given(activities(), ACTIVITY_IDS, st.lists(NAMES, min_size=1, max_size=4))
def test_an_item_may_have_several_routes(
    activity: Activity, activity_id: int, via: list[str]
) -> None:
    raw = wire.feed_item_via(activity_id, wire.frame(activity), via)
    item = FeedItem(activity=with_id(activity, activity_id), via=via)
    assert FeedPage.FromString(raw) == FeedPage(items=[item])


@given(activities())
def test_the_header_says_what_scripts_and_readers_ask_for(activity: Activity) -> None:
    frame = wire.frame(activity)
    version, flags, header, begin, end = struct.unpack_from(">BBBHH", frame)
    assert (version, header) == (wire.VERSION, 7)
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
    assert wire.actor(wire.frame(activity)) == activity.actor
