"""How activities look on a terminal: when, who did what to what, where, and what was said."""

import sys
import time
import zlib
from collections.abc import Collection

from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.feed_pb2 import FeedItem
from rich.console import Console
from rich.text import Text

#: Verbs that read better in the past tense; others are shown as they are.
PAST = {
    "accept": "accepted",
    "add": "added",
    "announce": "announced",
    "answer": "answered",
    "approve": "approved",
    "ask": "asked",
    "close": "closed",
    "comment": "commented on",
    "create": "created",
    "delete": "deleted",
    "deploy": "deployed",
    "follow": "followed",
    "fork": "forked",
    "invite": "invited",
    "join": "joined",
    "leave": "left",
    "like": "liked",
    "mention": "mentioned",
    "merge": "merged",
    "open": "opened",
    "post": "posted",
    "publish": "published",
    "push": "pushed to",
    "release": "released",
    "remove": "removed",
    "reopen": "reopened",
    "reply": "replied to",
    "review": "reviewed",
    "share": "shared",
    "star": "starred",
    "update": "updated",
    "watch": "watched",
    "welcome": "welcomed",
    "write": "wrote",
}

#: So that one sees at a glance who is who.
COLOURS = (
    "cyan",
    "green",
    "yellow",
    "magenta",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_green",
)

#: Seconds of a unit, its name, and from how many seconds on it is used.
AGES = ((86_400, "d", 86_400), (3_600, "h", 3_600), (60, "min", 60), (1, "s", 2))
#: Older ones are shown by their date.
OLD = 30 * 86_400

#: Control characters, which could do things to a terminal, and what is shown for them.
_HARMLESS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")


def console() -> Console:
    """For stdout as it is now. Lines are never cut or wrapped, so that a script can read them."""
    return Console(file=sys.stdout, soft_wrap=True, highlight=False)


def plain(text: str) -> str:
    """The text without control characters and line ends."""
    return text.translate(_HARMLESS)


def age(seconds: float) -> str:
    """How long ago something was."""
    if seconds >= OLD:
        return time.strftime("%Y-%m-%d", time.gmtime(time.time() - seconds))
    for unit, name, least in AGES:
        if seconds >= least:
            return f"{seconds // unit:.0f} {name} ago"
    return "just now" if seconds > -60 else "in the future"  # noqa: PLR2004 - clocks differ


def entity(name: str) -> Text:
    """An entity's id in a colour of its own."""
    return Text(plain(name), style=f"bold {COLOURS[zlib.crc32(name.encode()) % len(COLOURS)]}")


def activity_line(activity: Activity, via: Collection[str] = ()) -> Text:
    """An activity in one line, with what brought it (``via``) unless that is its actor."""
    when = activity.publish_time
    line = Text()
    line.append(f"{age(time.time() - when.seconds - when.nanos / 1e9):>12}  ", style="dim")
    line.append_text(entity(activity.actor))
    line.append(f" {PAST.get(activity.verb.lower(), plain(activity.verb))}")
    if activity.HasField("object"):
        line.append(" ").append(_name(activity.object), style="bold")
    if activity.HasField("target") and _subject(activity.target) != _subject(activity.object):
        line.append(" in ").append(_name(activity.target), style="bold")
    if activity.content:
        line.append(f" “{plain(activity.content)}”", style="italic")
    if via and activity.actor not in via:
        line.append(f"  via {', '.join(map(plain, via))}", style="dim")
    return line


def item_line(item: FeedItem) -> Text:
    """A place in a feed in one line."""
    return activity_line(item.activity.activity, item.via)


def _name(ref: Ref) -> str:
    return plain(ref.name or _subject(ref))


def _subject(ref: Ref) -> str:
    """The id of what a Ref names, whatever it is."""
    kind = ref.WhichOneof("subject")
    return getattr(ref, kind) if kind else ""
