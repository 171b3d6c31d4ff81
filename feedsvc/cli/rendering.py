"""Output on a terminal: activities, feed items, delivery jobs and tables.

A terminal gets lines that fit its width. A pipe or a file gets each line and each id whole,
whatever their length, so that scripts can read them.
"""

import os
import sys
import time
import zlib
from collections.abc import Collection

from activityfeed.admin.v1.admin_service_pb2 import (
    JOB_KIND_DELIVER,
    JOB_KIND_FLIP,
    JOB_KIND_RETRACT,
    FanoutJob,
)
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.feed_pb2 import FeedItem
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

#: Past tenses of common verbs. Other verbs are shown as they are.
PAST_TENSES = {
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

#: Colours of entities. An entity always has the same colour, so that readers recognise it.
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

#: Units of ages: the unit's seconds, its name, and the age in seconds from which it is used.
AGE_UNITS = ((86_400, "d", 86_400), (3_600, "h", 3_600), (60, "min", 60), (1, "s", 2))
#: Age in seconds from which a date is shown instead.
DATE_AGE = 30 * 86_400

#: Names of the kinds of delivery jobs.
JOB_KINDS = {JOB_KIND_DELIVER: "deliver", JOB_KIND_RETRACT: "retract", JOB_KIND_FLIP: "flip"}

#: Columns of a pipe or a file: so many that no line is wrapped.
UNLIMITED_WIDTH = 1_000_000
#: Columns before the text of an activity: its age, and two spaces.
AGE_WIDTH = 14
#: Fewest columns that lines and tables are made for. A narrower terminal wraps the lines itself.
MIN_WIDTH = 40

#: Characters that a terminal obeys: control characters, ends of lines and paragraphs, and the
#: embeddings, overrides and isolates that change the order in which text is shown.
_OBEYED_CHARACTERS = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_SPACES_FOR_CONTROLS = dict.fromkeys(_OBEYED_CHARACTERS, " ")


def console(*, stderr: bool = False) -> Console:
    """Return a console for stdout or stderr, which `print_lines` and `print_table` print on.

    The console wraps lines to the width of a terminal, and has no limit for a pipe or a file, even
    if COLUMNS is set. It prints no colours and no other styles if NO_COLOR is set.
    """
    file = sys.stderr if stderr else sys.stdout
    return Console(
        file=file,
        stderr=stderr,
        width=None if file.isatty() else UNLIMITED_WIDTH,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        soft_wrap=True,
        highlight=False,
    )


def has_cursor(out: Console) -> bool:
    """Return whether a console can print over its last lines: bars and refreshed tables can move.

    FORCE_COLOR makes a pipe no terminal: a program that wants colours wants no moving cursor.
    """
    return out.file.isatty() and not out.is_dumb_terminal


def print_lines(
    out: Console, text: Text | str, *, indent: int = AGE_WIDTH, style: str = ""
) -> None:
    """Print a line, wrapped between words if the terminal is narrower than the line.

    The second and further lines begin ``indent`` columns to the right.
    """
    line = Text(text) if isinstance(text, str) else text
    if line.cell_len <= out.width or out.width < MIN_WIDTH or len(line) <= indent:
        out.print(line, style=style or None)
        return
    head, body = line.divide([indent])
    for number, part in enumerate(body.wrap(out, out.width - indent, overflow="fold")):
        part.rstrip()
        out.print((Text(" " * indent) if number else head) + part, style=style or None)


def borderless_table(*headings: str) -> Table:
    """Return an empty table without borders, with a column for each heading.

    A column with a heading holds numbers. Without headings the table has no columns yet.
    """
    table = Table(show_header=bool(headings), box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    return table


def print_table(out: Console, table: Table) -> None:
    """Print a table as wide as its cells need, at most as wide as the terminal.

    Only the last column is wrapped, between words. No id is cut: a word that is longer than the
    column goes on in the next line. No line ends in spaces.
    """
    for column in table.columns:
        column.overflow = "fold"
        column.no_wrap = column is not table.columns[-1]
    options = out.options.update_width(max(out.width, MIN_WIDTH))
    for segments in out.render_lines(table, options, pad=False):
        while segments and not segments[-1].text.strip():
            segments.pop()
        if segments:
            last = segments.pop()
            segments.append(Segment(last.text.rstrip(), last.style))
        out.print(Segments([*segments, Segment.line()]), end="")


def plain(text: str) -> str:
    """Return the text with a space for each control character and line end.

    Characters that change the direction of text become spaces, too: they could make one id look
    like another.
    """
    return text.translate(_SPACES_FOR_CONTROLS)


def age(seconds: float) -> str:
    """Return how long ago something happened, in words, or its date if it is old."""
    if seconds >= DATE_AGE:
        return time.strftime("%Y-%m-%d", time.gmtime(time.time() - seconds))
    for unit_seconds, name, min_seconds in AGE_UNITS:
        if seconds >= min_seconds:
            return f"{seconds // unit_seconds:.0f} {name} ago"
    # The clocks of this machine and the server differ a little.
    return "just now" if seconds > -60 else "in the future"  # noqa: PLR2004


def age_since(timestamp: Timestamp) -> str:
    """Return how long ago ``timestamp`` was, in words."""
    return age(time.time() - timestamp.seconds - timestamp.nanos / 1e9)


def entity(name: str) -> Text:
    """Return an entity's id in the colour of that entity."""
    return Text(plain(name), style=f"bold {COLOURS[zlib.crc32(name.encode()) % len(COLOURS)]}")


def activity_line(activity: Activity, via: Collection[str] = ()) -> Text:
    """Return an activity as one line.

    The line names ``via``, the entities whose outboxes brought the activity, unless the actor is
    one of them.
    """
    line = Text()
    line.append(f"{age_since(activity.publish_time):>12}  ", style="dim")
    line.append_text(entity(activity.actor))
    line.append(f" {PAST_TENSES.get(activity.verb.lower(), plain(activity.verb))}")
    if activity.HasField("object"):
        line.append(" ").append(_ref_name(activity.object), style="bold")
    if activity.HasField("target") and _ref_id(activity.target) != _ref_id(activity.object):
        line.append(" in ").append(_ref_name(activity.target), style="bold")
    if activity.content:
        line.append(f" “{plain(activity.content)}”", style="italic")
    if via and activity.actor not in via:
        line.append(f"  via {', '.join(map(plain, via))}", style="dim")
    return line


def item_line(item: FeedItem) -> Text:
    """Return an item of a feed as one line."""
    return activity_line(item.activity.activity, item.via)


def job_summary(job: FanoutJob) -> str:
    """Return the activity that a job delivers, and the authors whose followers it addresses."""
    authors = ", ".join(map(plain, filter(None, (job.actor, *job.to))))
    return f"{job.activity_id} to followers of {authors}".lstrip()


def _ref_name(ref: Ref) -> str:
    return plain(ref.name or _ref_id(ref))


def _ref_id(ref: Ref) -> str:
    """Return the id that a Ref names: of a thing, an entity or an activity."""
    field = ref.WhichOneof("subject")
    return getattr(ref, field) if field else ""
