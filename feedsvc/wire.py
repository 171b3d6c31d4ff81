"""Activities in protobuf's wire format: their stored form, and the answers made of it.

The fields of a serialised message may stand in any order, and a parser cannot tell an appended
field from an original one. So the service makes an answer without parsing: it appends the fields
that it sets (id, times, etag) to the stored bytes.

The store holds an activity in a frame:

=========  =====================================================================
bytes      content
=========  =====================================================================
1          version of the layout: 2
1          flags: ``HAS_TIME``, ``HAS_TO``
1          length of the header, which is everything before the body
2          offset in the body where the field ``actor`` begins; only ``external_id`` may precede it
2          offset in the body where the field ``actor`` ends
2          revision: 1, and one more after each change
4 x 4      hashes of the verb, the actor, the object and the group (see ``_hash``)
6          Unix milliseconds when the service received it; only with ``HAS_TIME``; 0: unknown
any        further fields of later versions
remaining  the body: the activity as the caller sent it, with defaults filled in
=========  =====================================================================

Numbers are big-endian. Scripts read the header too (``core/lua/lib/outbox.lua``): with the hashes
they can filter and group without knowing protobuf. Different hashes mean different fields; equal
hashes mean that a script must compare the fields.
"""

from functools import lru_cache
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from activityfeed.v1.activity_pb2 import Activity, Ref

from feedsvc.core import ids

#: Version of the frame's layout.
VERSION = 2
#: Flag: the caller gave a ``publish_time``. Without it the activity's id tells when the service
#: received and published it.
HAS_TIME = 1
#: Flag: the activity is published ``to`` other entities.
HAS_TO = 2

_HEADER = Struct(">BBBHHHIIII")
#: The part of the header that every reader needs: version, flags, length, begin and end of
#: ``actor``.
_HEAD = Struct(">BBBHH")
_REVISION = slice(7, 9)
_FIRST_REVISION = b"\x00\x01"
_RECEIVE_TIME_BYTES = 6
#: Bytes of the field ``id`` of an activity: a tag, a length, 19 digits.
_ID_BYTES = 21
#: Tags of the fields 1 to 4 if they have variable length: the field's number times eight, plus two.
FIELD_1, FIELD_2, FIELD_3, FIELD_4 = b"\x0a", b"\x12", b"\x1a", b"\x22"
#: Tags of times of an activity: the fields 13 and 14.
_PUBLISH_TIME, _CREATE_TIME = b"\x6a", b"\x72"
#: The tag of ``etag``, the field 16.
_ETAG = b"\x82\x01"
#: The field ``etag`` of an activity that was never changed.
_FIRST_ETAG = b"\x82\x01\x02v1"


def varint(number: int) -> bytes:
    """Return a number in protobuf's variable-length form. The number is not negative."""
    if number < len(_VARINTS):
        return _VARINTS[number]
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)


#: The forms of small numbers, because most lengths are small.
_VARINTS: list[bytes] = []
_VARINTS += [bytes((number,)) for number in range(0x80)]
_VARINTS += [varint(number) for number in range(0x80, 0x800)]


def field(tag: bytes, value: bytes) -> bytes:
    """Return a field of variable length: a text, or a message within another message."""
    return b"%b%b%b" % (tag, varint(len(value)), value)


class FramedActivity(NamedTuple):
    """An activity in its stored form."""

    frame: bytes
    """The frame."""
    comparable: bytes
    """The serialised activity without its ``publish_time``. Equal activities have equal bytes."""


def frame_activity(activity: Activity, now_ms: int) -> FramedActivity:
    """Return the stored form of an activity that holds only what the caller gives.

    ``now_ms`` is when the service received the activity, in Unix milliseconds. The activity loses
    its ``publish_time``.
    """
    receive_time = publish_time = b""
    if activity.HasField("publish_time"):
        publish_time = field(_PUBLISH_TIME, activity.publish_time.SerializeToString())
        receive_time = now_ms.to_bytes(_RECEIVE_TIME_BYTES)
        activity.ClearField("publish_time")
    comparable = activity.SerializeToString(deterministic=True)
    external_id = field(FIELD_2, activity.external_id.encode()) if activity.external_id else b""
    actor = field(FIELD_3, activity.actor.encode())
    if not comparable.startswith(external_id + actor):
        raise RuntimeError("the protobuf runtime does not serialise fields in order")
    object_name = _name_of(activity.object)
    header = _HEADER.pack(
        VERSION,
        HAS_TIME * bool(publish_time) + HAS_TO * bool(activity.to),
        _HEADER.size + len(receive_time),
        len(external_id),
        len(external_id) + len(actor),
        1,
        _hash(activity.verb),
        _hash(activity.actor),
        _hash(object_name),
        _hash(f"{activity.verb}\0{object_name}"),
    )
    frame = b"%b%b%b%b" % (header, receive_time, comparable, publish_time)
    return FramedActivity(frame, comparable)


def _name_of(ref: Ref) -> str:
    """Return what a Ref names, with its kind; empty if it names nothing."""
    kind = ref.WhichOneof("subject")
    return f"{kind}\0{getattr(ref, kind)}" if kind else ""


def _hash(text: str) -> int:
    """Return a number that is the same for the same text; 0 for the empty text."""
    return crc32(text.encode())


def body(frame: bytes) -> bytes:
    """Return the serialised activity of a frame, as the caller sent it: without its id."""
    return frame[_read_head(frame)[2] :]


def actor(frame: bytes) -> str:
    """Return the actor of the activity in a frame."""
    _, _, header_bytes, begin, end = _read_head(frame)
    # Before the actor stand the field's tag and its length, which takes two bytes from 128 on.
    prefix_bytes = 2 if end - begin < 2 + 0x80 else 3
    return frame[header_bytes + begin + prefix_bytes : header_bytes + end].decode()


def without_receive_time(frame: bytes) -> bytes:
    """Return the frame of the same activity with an unknown time of receipt."""
    if not frame[1] & HAS_TIME:
        return frame  # the activity's id tells the time
    start = _HEADER.size
    return frame[:start] + bytes(_RECEIVE_TIME_BYTES) + frame[start + _RECEIVE_TIME_BYTES :]


def has_to(frame: bytes) -> bool:
    """Return whether other outboxes than the actor's hold the activity in a frame."""
    return bool(frame[1] & HAS_TO)


def activity(activity_id: int, frame: bytes) -> bytes:
    """Return a serialised Activity: the stored bytes, then the fields that the service sets."""
    return b"%b\n\x13%d%b" % (body(frame), activity_id, _times_and_etag(activity_id, frame))


def viewed_activity(activity_id: int, frame: bytes) -> bytes:
    """Return a serialised ViewedActivity."""
    return field(FIELD_1, activity(activity_id, frame))


def feed_item(activity_id: int, frame: bytes) -> bytes:
    """Return a serialised FeedItem of an activity that the actor's outbox alone brought.

    A page has twenty items, so that one step makes the item: first the lengths, then the bytes.
    """
    _, _, header_bytes, begin, end = _read_head(frame)
    # ``via`` has the field number that ``actor`` has in an activity, and so the same bytes.
    via = frame[header_bytes + begin : header_bytes + end]
    times_and_etag = _times_and_etag(activity_id, frame)
    length = len(frame) - header_bytes + _ID_BYTES + len(times_and_etag)
    activity_length = varint(length)
    viewed_length = varint(1 + len(activity_length) + length)
    return b"\n\x13%d\x12\x08%b%b\x22%b\n%b%b\n\x13%d%b" % (
        activity_id,
        activity_id.to_bytes(8),
        via,
        viewed_length,
        activity_length,
        frame[header_bytes:],
        activity_id,
        times_and_etag,
    )


def feed_item_via(activity_id: int, frame: bytes, via: list[str]) -> bytes:
    """Return a serialised FeedItem of an activity that the outboxes of ``via`` brought."""
    routes = b"".join(field(FIELD_3, entity.encode()) for entity in via)
    id_and_sort_key = b"\n\x13%d\x12\x08%b" % (activity_id, activity_id.to_bytes(8))
    return id_and_sort_key + routes + field(FIELD_4, viewed_activity(activity_id, frame))


def timestamp(tag: bytes, ms: int) -> bytes:
    """Return a field with a Timestamp of a time in Unix milliseconds."""
    return tag + _timestamp(ms)


def _read_head(frame: bytes) -> tuple[int, ...]:
    """Return version, flags, header's length, and begin and end of ``actor``.

    Raise ValueError if the bytes are no frame.
    """
    head = _HEAD.unpack_from(frame)
    if head[0] != VERSION:
        raise ValueError("the stored bytes are no frame of an activity")
    return head


def _times_and_etag(activity_id: int, frame: bytes) -> bytes:
    """Return the fields of an activity's etag and of those times that the caller did not give."""
    revision = frame[_REVISION]
    etag = _FIRST_ETAG
    if revision != _FIRST_REVISION:
        etag = field(_ETAG, b"v%d" % int.from_bytes(revision))
    if frame[1] & HAS_TIME:
        start = _HEADER.size
        receive_ms = int.from_bytes(frame[start : start + _RECEIVE_TIME_BYTES])
        return b"%b%b%b" % (_CREATE_TIME, _timestamp(receive_ms), etag) if receive_ms else etag
    time = _timestamp(ids.ms_of(activity_id))
    return b"\x6a%b\x72%b%b" % (time, time, etag)  # publish_time and create_time


def _timestamp(ms: int) -> bytes:
    """Return a Timestamp with its length before it."""
    before_seconds, after_seconds = _AROUND_SECONDS[ms % 1_000]
    return before_seconds + _seconds(ms // 1_000) + after_seconds


@lru_cache(maxsize=4_096)
def _seconds(seconds: int) -> bytes:
    return varint(seconds)


def _around_seconds(ms: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the seconds of a Timestamp with these milliseconds.

    The seconds take five bytes from 1978 to 3058.
    """
    nanos = b"\x10" + varint(ms * 1_000_000) if ms else b""
    return varint(1 + 5 + len(nanos)) + b"\x08", nanos


#: What stands around the seconds of a Timestamp, by the milliseconds of the second.
_AROUND_SECONDS = [_around_seconds(ms) for ms in range(1_000)]
