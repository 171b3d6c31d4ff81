"""What the rows of imported files mean: the canonical form and the presets.

A preset takes one line to the message that it asks for. Whether it is well-formed is decided here;
whether the service takes it, by the service.
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


class Malformed(ValueError):
    """The line is not what the preset expects; the message says why. Expected: it is reported."""


class Pending(NamedTuple):
    """An activity's row. Its message is built when it is sent, not in the first pass."""

    actor: str
    build: Callable[[], Activity]
    """Raises Malformed."""


Row = FollowRequest | Pending
Preset = Callable[[bytes], Row | None]
"""Takes a line without its end to its row; None if there is nothing in it. Raises Malformed."""

HIGGS_VERBS = {b"RT": "share", b"MT": "mention", b"RE": "reply"}


def canonical(line: bytes) -> Row | None:
    """``{"activity": {...}}`` or ``{"follow": {"follower": "...", "followee": "..."}}``.

    The activity is an activityfeed.v1.Activity in proto-JSON.
    """
    match _json(line):
        case None:
            return None
        case {"activity": {"actor": str(actor)} as fields, **others} if not others:
            return Pending(actor, partial(_activity, fields))
        case {"activity": _, **others} if not others:
            raise Malformed("an activity is an object with an actor")
        case {
            "follow": {"follower": str(follower), "followee": str(followee), **more},
            **others,
        } if not others and not more:
            return _follow(follower, followee)
        case {"follow": _, **others} if not others:
            raise Malformed("a follow is an object with a follower and a followee")
    raise Malformed('neither {"activity": ...} nor {"follow": ...}')


def higgs(line: bytes) -> Row | None:
    """SNAP's higgs-twitter and what was made of it; columns by spaces or tabs.

    Four columns are an activity, ``actor target unixtime kind``, of which the kind is RT (share),
    MT (mention) or RE (reply); two or three are a follow, ``follower followee`` and something that
    is not kept. So lists of edges as SNAP publishes them can be read too. ``#`` begins a comment.
    """
    if line.startswith(b"#"):
        return None
    match line.split():
        case []:
            return None
        case [actor, target, when, kind]:
            name = _text(actor)
            return Pending(name, partial(_tweet, name, target, when, kind))
        case [follower, followee] | [follower, followee, _]:
            return _follow(_text(follower), _text(followee))
    raise Malformed("neither 4 columns (an activity) nor 2 or 3 (a follow)")


def gharchive(line: bytes) -> Row | None:
    """Public GitHub events, reduced: ``{id, actor, verb, object, target, time, ...}``.

    Published `to` the repository, which is the target. The event's id is the external id; what else
    the event says is kept in `extra`.
    """
    match _json(line):
        case None:
            return None
        case {
            "id": str(event),
            "actor": str(actor),
            "verb": str(verb),
            "object": str(thing),
            "target": str(repo),
            "time": str(when),
            **others,
        }:
            return Pending(actor, partial(_event, event, actor, verb, thing, repo, when, others))
    raise Malformed("not an object with id, actor, verb, object, target and time, all strings")


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {"canonical": canonical, "higgs": higgs, "gharchive": gharchive}
)


def _json(line: bytes) -> Any:
    """The value, or None for an empty line."""
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    return "null" if value is None else value


def _text(column: bytes) -> str:
    try:
        return column.decode()
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None


def _follow(follower: str, followee: str) -> FollowRequest:
    try:
        return FollowRequest(follower=follower, followee=followee)
    except ValueError as error:  # half a surrogate pair
        raise Malformed(str(error)) from None


def _activity(fields: dict[str, Any]) -> Activity:
    try:
        return ParseDict(fields, Activity())
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def _tweet(actor: str, target: bytes, when: bytes, kind: bytes) -> Activity:
    verb = HIGGS_VERBS.get(kind)
    if verb is None or not when.isdigit():
        raise Malformed("the third column must be Unix seconds, the fourth RT, MT or RE")
    try:
        return Activity(
            actor=actor,
            verb=verb,
            object=Ref(id=_text(target)),
            publish_time=Timestamp(seconds=int(when)),
        )
    except ValueError as error:
        raise Malformed(str(error)) from None


def _event(  # noqa: PLR0913, PLR0917 - an event has that many parts
    event: str, actor: str, verb: str, thing: str, repo: str, when: str, others: Mapping[Any, Any]
) -> Activity:
    try:
        activity = Activity(
            external_id=event,
            actor=actor,
            verb=verb,
            object=Ref(id=thing),
            target=Ref(id=repo, type="Repository", name=repo.removeprefix("repo:")),
            to=[repo],
        )
        activity.publish_time.FromJsonString(when)
        if others:
            activity.extra.update(others)
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    return activity
