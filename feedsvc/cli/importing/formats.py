"""Formats of the lines of imported files: the canonical one and those of public data sets.

A format turns one line into a row. The format decides whether the line is well-formed; the service
decides whether it takes the row. ``tables`` has the formats of files with columns.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

#: What a message of another program says about a value, and the rule of the value in plain words.
#: ``{}`` stands for the part of the message that the pattern's group matches.
_RULES = (
    (re.compile(r"has no field named \"(.*)\" at \""), "has no field {}"),
    (re.compile(r"expected string"), "must be a string"),
    (re.compile(r"Invalid enum value"), "must be AUDIENCE_FOLLOWERS or AUDIENCE_TO_ONLY"),
    (re.compile(r"Struct must be in a dict|not iterable"), "must be a JSON object"),
    (re.compile(r"must be in \[\]"), "must be a list"),
    (re.compile(r"null is not allowed"), "must not contain null"),
    (re.compile(r"oneof fields"), "must have only one of id, entity and activityId"),
    (re.compile(r"[Tt]imestamp|time data|timezone"), "must be a time such as 2026-01-31T12:00:00Z"),
)
#: The escape of half of a surrogate pair. Two halves that belong together are a character.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_TOO_DEEP = "is nested too deeply"
_FAILED_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_PATH = re.compile(r"\bat \"?Activity\.?([\w.\[\]]*)\"?\.*$", re.MULTILINE)


class MalformedLine(ValueError):
    """A line breaks its format; the message says how. Expected: the import reports it."""


class ActivityRow(NamedTuple):
    """The row of an activity, whose message is built when it is sent, not in the first pass."""

    actor: str
    build: Callable[[], Activity]
    """Function that returns the activity. Raises MalformedLine."""
    identity: bytes | None = None
    """Bytes of which the activity's external id is made if it has none; None: the line."""


Row = FollowRequest | ActivityRow
Format = Callable[[bytes], Row | None]
"""Function from a line without its end to its row, or to None if the line holds nothing.

Raises MalformedLine.
"""

HIGGS_VERBS = {b"RT": "share", b"MT": "mention", b"RE": "reply"}


def canonical(line: bytes) -> Row | None:
    """Read ``{"activity": {...}}`` or ``{"follow": {"follower": "...", "followee": "..."}}``.

    The activity is an activityfeed.v1.Activity in proto-JSON.
    """
    match _read_json(line):
        case None:
            return None
        case {"activity": {"actor": str(actor)} as fields, **others} if not others:
            return ActivityRow(actor, partial(_build_activity, fields))
        case {"activity": _, **others} if not others:
            raise MalformedLine("an activity must be an object with an actor")
        case {
            "follow": {"follower": str(follower), "followee": str(followee), **other_fields},
            **others,
        } if not others and not other_fields:
            return FollowRequest(follower=follower, followee=followee)
        case {"follow": _, **others} if not others:
            raise MalformedLine("a follow must be an object with a follower and a followee only")
    raise MalformedLine('must be {"activity": ...} or {"follow": ...}')


def higgs(line: bytes) -> Row | None:
    """Read a line of SNAP's higgs-twitter or of a data set made from it.

    Columns are separated by spaces or tabs. Four columns are an activity, ``actor target unixtime
    kind``, of the kind RT (share), MT (mention) or RE (reply). Two or three columns are a follow,
    ``follower followee`` and a value that is not kept; so this format also reads lists of edges as
    SNAP publishes them. ``#`` begins a comment.
    """
    if line.startswith(b"#"):
        return None
    match line.split():
        case []:
            return None
        case [actor_column, target, unix_time, kind]:
            actor = decode(actor_column)
            return ActivityRow(actor, partial(_build_tweet, actor, target, unix_time, kind))
        case [follower, followee] | [follower, followee, _]:
            return FollowRequest(follower=decode(follower), followee=decode(followee))
    raise MalformedLine("must have 4 columns (an activity), or 2 or 3 (a follow)")


def gharchive(line: bytes) -> Row | None:
    """Read a public GitHub event, reduced: ``{id, actor, verb, object, target, time, ...}``.

    The activity is published `to` the repository, which is the target. The event's id is the
    external id. Other fields of the event are kept in `extra`.
    """
    match _read_json(line):
        case None:
            return None
        case {
            "id": str(event_id),
            "actor": str(actor),
            "verb": str(verb),
            "object": str(object_id),
            "target": str(repo),
            "time": str(time),
            **other_fields,
        }:
            build = partial(
                _build_event, event_id, actor, verb, object_id, repo, time, other_fields
            )
            return ActivityRow(actor, build)
    raise MalformedLine(
        "must be an object with id, actor, verb, object, target and time, all strings"
    )


FORMATS: Mapping[str, Format] = MappingProxyType(
    {"jsonl": canonical, "higgs": higgs, "gharchive": gharchive}
)
"""The formats in which each line is a row of its own, by name."""


def decode(text: bytes) -> str:
    """Return the text. Raise MalformedLine if it is not UTF-8 or has a NUL byte."""
    if b"\0" in text:
        raise MalformedLine(f"has a NUL byte at position {text.index(0) + 1}")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise MalformedLine(
            f"is not UTF-8: byte 0x{text[error.start]:02x} at position {error.start + 1}"
        ) from None


def parse_json(text: str) -> Any:
    """Return the value of a text. Raise MalformedLine if the text is not JSON."""
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise MalformedLine(
            f"has {half}, half of a surrogate pair, which is no character"
        ) from None
    except json.JSONDecodeError as error:
        raise MalformedLine(
            f"is not JSON: {error.msg.removesuffix(' at')} at position {error.pos + 1}"
        ) from None
    except RecursionError:
        raise MalformedLine(_TOO_DEEP) from None
    except ValueError:  # Python's only other limit
        raise MalformedLine("has a number with too many digits") from None
    return value


def parse_message(fields: dict[str, Any], message: Message, path: str) -> None:
    """Fill a message from JSON. ``path`` begins the names of fields. Raise MalformedLine."""
    try:
        ParseDict(fields, message)
    except (ParseError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedLine(_explain(error, path)) from None


def _explain(error: Exception, path: str) -> str:
    """Return which field of a message breaks which rule."""
    text = str(error)
    if isinstance(error, RecursionError) or "too deep" in text:
        return f"{path}: {_TOO_DEEP}"
    if isinstance(error, OverflowError):
        return f"{path}: has a number that is too large"
    location = _PATH.search(text)
    names = [location[1].strip(".")] if location else []
    field = ".".join((path, *(filter(None, names) if any(names) else _FAILED_FIELD.findall(text))))
    for pattern, rule in _RULES:
        if match := pattern.search(text):
            return f"{field}: {rule.format(*match.groups())}"
    return f"{field}: {_FAILED_FIELD.sub('', text.splitlines()[0])}"


def _read_json(line: bytes) -> Any:
    """Return the value of a line, or None if the line is empty."""
    if not line.strip():
        return None
    value = parse_json(decode(line))
    return "null" if value is None else value


def _build_activity(fields: dict[str, Any]) -> Activity:
    activity = Activity()
    parse_message(fields, activity, "activity")
    return activity


def _build_tweet(actor: str, target: bytes, unix_time: bytes, kind: bytes) -> Activity:
    verb = HIGGS_VERBS.get(kind)
    if verb is None or not unix_time.isdigit():
        raise MalformedLine("the third column must be Unix seconds, the fourth RT, MT or RE")
    object_id = decode(target)
    try:
        return Activity(
            actor=actor,
            verb=verb,
            object=Ref(id=object_id),
            publish_time=Timestamp(seconds=int(unix_time)),
        )
    except ValueError:
        raise MalformedLine("the third column must be Unix seconds") from None


def _build_event(  # noqa: PLR0913, PLR0917 - an event has that many parts
    event_id: str,
    actor: str,
    verb: str,
    object_id: str,
    repo: str,
    time: str,
    other_fields: Mapping[Any, Any],
) -> Activity:
    try:
        activity = Activity(
            external_id=event_id,
            actor=actor,
            verb=verb,
            object=Ref(id=object_id),
            target=Ref(id=repo, type="Repository", name=repo.removeprefix("repo:")),
            to=[repo],
        )
        if other_fields:
            activity.extra.update(other_fields)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedLine(_explain(error, "the event")) from None
    try:
        activity.publish_time.FromJsonString(time)
    except ValueError as error:
        raise MalformedLine(_explain(error, "time")) from None
    return activity
