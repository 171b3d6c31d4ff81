"""Activities in the wire's format: how they are stored, and answers made of what is stored.

The fields of a serialised message may come in any order, and a field that is appended counts as if
it had always been there. So an answer is the stored bytes with what the service gives (id, times,
etag) behind them: nothing is parsed.

An activity is stored in a frame:

======  ========================================================================
bytes   what
======  ========================================================================
1       version of the layout: 2
1       flags: ``HAS_TIME``, ``HAS_TO``
1       length of the header, all of this; the body begins there
2       where in the body the field ``actor`` begins; only ``external_id`` may be before it
2       where the field ``actor`` ends
2       revision: 1, and one more after each change
4 x 4   hashes of the verb, the actor, the object and the group (see ``_hash``)
6       when the service received it, in Unix milliseconds; only with ``HAS_TIME``; 0: not known
any     more, in later versions
rest    the body: the activity as the caller sent it, defaults in
======  ========================================================================

Numbers are big-endian. Scripts read the header too (``core/lua/lib/outbox.lua``), and need not know
protobuf to filter and to group by it. A hash that differs says that the fields differ; one that is
the same has to be checked.
"""

from functools import lru_cache
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from activityfeed.v1.activity_pb2 import Activity, Ref

from feedsvc.core import ids

VERSION = 2
HAS_TIME = 1
"""It was sent with a ``publish_time``; otherwise its id says when it was published and received."""
HAS_TO = 2
"""It is published ``to`` others."""

_HEADER = Struct(">BBBHHHIIII")
#: What is read of each header: version, flags, length, where ``actor`` begins and ends.
_HEAD = Struct(">BBBHH")
_REVISION = slice(7, 9)
_FIRST_REVISION = b"\x00\x01"
_RECEIVED_BYTES = 6
#: What ids take in an item of a feed: ``item_id`` (a tag, a length, 19 digits) and ``sort_key``.
_NAME_BYTES = 21 + 10
_ID_BYTES = 21
#: Tags of fields of variable length: the number times eight, plus two.
FIRST, SECOND, THIRD, FOURTH = b"\x0a", b"\x12", b"\x1a", b"\x22"
_PUBLISH_TIME, _CREATE_TIME = b"\x6a", b"\x72"
#: The field ``etag`` (16), up to the revision's number; and that of what was never changed.
_ETAG, _FIRST_ETAG = b"\x82\x01", b"\x82\x01\x02v1"


def varint(number: int) -> bytes:
    """A number that is not negative, or a length."""
    if number < len(_VARINTS):
        return _VARINTS[number]
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)


#: The small ones, which most lengths are.
_VARINTS: list[bytes] = []
_VARINTS += [bytes((number,)) for number in range(0x80)]
_VARINTS += [varint(number) for number in range(0x80, 0x800)]


def field(tag: bytes, value: bytes) -> bytes:
    """A field of variable length: a text, or a message within another."""
    return b"%b%b%b" % (tag, varint(len(value)), value)


class Framed(NamedTuple):
    """An activity that was sent."""

    frame: bytes
    """As it is stored."""
    compared: bytes
    """The same for two activities that are the same: all that the caller gives but its time."""


def framed(activity: Activity, now_ms: int) -> Framed:
    """What is stored of an activity that holds only what the caller gives; ``now_ms``: its receipt.

    The activity loses its ``publish_time``.
    """
    received = time = b""
    if activity.HasField("publish_time"):
        time = field(_PUBLISH_TIME, activity.publish_time.SerializeToString())
        received = now_ms.to_bytes(_RECEIVED_BYTES)
        activity.ClearField("publish_time")
    compared = activity.SerializeToString(deterministic=True)
    external = field(SECOND, activity.external_id.encode()) if activity.external_id else b""
    actor = field(THIRD, activity.actor.encode())
    if not compared.startswith(external + actor):
        raise RuntimeError("the protobuf runtime does not serialise fields in order")
    about = _subject(activity.object)
    header = _HEADER.pack(
        VERSION,
        HAS_TIME * bool(time) + HAS_TO * bool(activity.to),
        _HEADER.size + len(received),
        len(external),
        len(external) + len(actor),
        1,
        _hash(activity.verb),
        _hash(activity.actor),
        _hash(about),
        _hash(f"{activity.verb}\0{about}"),
    )
    return Framed(b"%b%b%b%b" % (header, received, compared, time), compared)


def _subject(ref: Ref) -> str:
    """What a Ref names, with its kind; empty: nothing."""
    kind = ref.WhichOneof("subject")
    return f"{kind}\0{getattr(ref, kind)}" if kind else ""


def _hash(text: str) -> int:
    """A number that is the same for the same text; 0 for the empty one."""
    return crc32(text.encode())


def body(frame: bytes) -> bytes:
    """The activity in a frame, as it was sent: without its id."""
    return frame[_checked(frame)[2] :]


def actor(frame: bytes) -> str:
    """Whose activity is in a frame."""
    _, _, header, begin, end = _checked(frame)
    length = 2 if end - begin < 2 + 0x80 else 3
    return frame[header + begin + length : header + end].decode()


def without_receipt(frame: bytes) -> bytes:
    """The same activity, of which it is not known when the service received it."""
    if not frame[1] & HAS_TIME:
        return frame  # its id says so
    at = _HEADER.size
    return frame[:at] + bytes(_RECEIVED_BYTES) + frame[at + _RECEIVED_BYTES :]


def has_to(frame: bytes) -> bool:
    """Whether more outboxes than its actor's, or others, hold the activity in a frame."""
    return bool(frame[1] & HAS_TO)


def activity(activity_id: int, frame: bytes) -> bytes:
    """The stored activity with all that the service gives it."""
    return b"%b\n\x13%d%b" % (body(frame), activity_id, _given(activity_id, frame))


def viewed_activity(activity_id: int, frame: bytes) -> bytes:
    """A ViewedActivity of what is stored."""
    return field(FIRST, activity(activity_id, frame))


def feed_item(activity_id: int, frame: bytes) -> bytes:
    """A FeedItem of an activity that its actor's outbox alone brought.

    Twenty make a page, so it is one step: the lengths first, then the bytes.
    """
    _, _, header, begin, end = _checked(frame)
    # ``via`` has the number that ``actor`` has in an activity, and so the same bytes.
    via = frame[header + begin : header + end]
    given = _given(activity_id, frame)
    length = len(frame) - header + _ID_BYTES + len(given)
    inner = varint(length)
    viewed = varint(1 + len(inner) + length)
    return b"\n\x13%d\x12\x08%b%b\x22%b\n%b%b\n\x13%d%b" % (
        activity_id,
        activity_id.to_bytes(8),
        via,
        viewed,
        inner,
        frame[header:],
        activity_id,
        given,
    )


def feed_item_via(activity_id: int, frame: bytes, via: list[str]) -> bytes:
    """The same, of an activity that several outboxes may have brought."""
    routes = b"".join(field(THIRD, one.encode()) for one in via)
    names = b"\n\x13%d\x12\x08%b" % (activity_id, activity_id.to_bytes(8))
    return names + routes + field(FOURTH, viewed_activity(activity_id, frame))


def timestamp(tag: bytes, ms: int) -> bytes:
    """A field with a Timestamp: a time in Unix milliseconds."""
    return tag + _timestamp(ms)


def _checked(frame: bytes) -> tuple[int, ...]:
    """The beginning of a frame's header."""
    header = _HEAD.unpack_from(frame)
    if header[0] != VERSION:
        raise ValueError("this is no frame of an activity")
    return header


def _given(activity_id: int, frame: bytes) -> bytes:
    """The times of an activity that the caller did not give, and the etag."""
    revision = frame[_REVISION]
    etag = _FIRST_ETAG
    if revision != _FIRST_REVISION:
        etag = field(_ETAG, b"v%d" % int.from_bytes(revision))
    if frame[1] & HAS_TIME:
        at = _HEADER.size
        received = int.from_bytes(frame[at : at + _RECEIVED_BYTES])
        return b"%b%b%b" % (_CREATE_TIME, _timestamp(received), etag) if received else etag
    received_time = _timestamp(ids.ms_of(activity_id))
    return b"\x6a%b\x72%b%b" % (received_time, received_time, etag)


def _timestamp(ms: int) -> bytes:
    """A Timestamp with its length."""
    before, after = _AROUND_SECONDS[ms % 1_000]
    return before + _seconds(ms // 1_000) + after


@lru_cache(maxsize=4_096)
def _seconds(seconds: int) -> bytes:
    return varint(seconds)


def _around_seconds(ms: int) -> tuple[bytes, bytes]:
    """What stands around the seconds in a time with these milliseconds.

    The seconds take five bytes from 1978 to 3058.
    """
    nanos = b"\x10" + varint(ms * 1_000_000) if ms else b""
    return varint(1 + 5 + len(nanos)) + b"\x08", nanos


_AROUND_SECONDS = [_around_seconds(ms) for ms in range(1_000)]
