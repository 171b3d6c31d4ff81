"""Formats of the lines of imported files: the canonical one and those of public data sets.

A format turns one line into a row. The format decides whether the line is well-formed; the service
decides whether it takes the row.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.timestamp_pb2 import Timestamp


class MalformedLine(ValueError):
    """A line breaks its format; the message says how. Expected: the import reports it."""


class ActivityRow(NamedTuple):
    """The row of an activity, whose message is built when it is sent, not in the first pass."""

    actor: str
    build: Callable[[], Activity]
    """Function that returns the activity. Raises MalformedLine."""


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
    match _parse_json(line):
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
            return _build_follow(follower, followee)
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
            actor = _decode(actor_column)
            return ActivityRow(actor, partial(_build_tweet, actor, target, unix_time, kind))
        case [follower, followee] | [follower, followee, _]:
            return _build_follow(_decode(follower), _decode(followee))
    raise MalformedLine("must have 4 columns (an activity), or 2 or 3 (a follow)")


def gharchive(line: bytes) -> Row | None:
    """Read a public GitHub event, reduced: ``{id, actor, verb, object, target, time, ...}``.

    The activity is published `to` the repository, which is the target. The event's id is the
    external id. Other fields of the event are kept in `extra`.
    """
    match _parse_json(line):
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
    {"canonical": canonical, "higgs": higgs, "gharchive": gharchive}
)


def _parse_json(line: bytes) -> Any:
    """Return the value of a line, or None if the line is empty."""
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        raise MalformedLine("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise MalformedLine(f"not JSON: {error}") from None
    return "null" if value is None else value


def _decode(column: bytes) -> str:
    try:
        return column.decode()
    except UnicodeDecodeError:
        raise MalformedLine("not UTF-8") from None


def _build_follow(follower: str, followee: str) -> FollowRequest:
    try:
        return FollowRequest(follower=follower, followee=followee)
    except ValueError as error:  # half a surrogate pair
        raise MalformedLine(str(error)) from None


def _build_activity(fields: dict[str, Any]) -> Activity:
    try:
        return ParseDict(fields, Activity())
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        raise MalformedLine(str(error)) from None


def _build_tweet(actor: str, target: bytes, unix_time: bytes, kind: bytes) -> Activity:
    verb = HIGGS_VERBS.get(kind)
    if verb is None or not unix_time.isdigit():
        raise MalformedLine("the third column must be Unix seconds, the fourth RT, MT or RE")
    try:
        return Activity(
            actor=actor,
            verb=verb,
            object=Ref(id=_decode(target)),
            publish_time=Timestamp(seconds=int(unix_time)),
        )
    except ValueError as error:
        raise MalformedLine(str(error)) from None


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
        activity.publish_time.FromJsonString(time)
        if other_fields:
            activity.extra.update(other_fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedLine(str(error)) from None
    return activity
