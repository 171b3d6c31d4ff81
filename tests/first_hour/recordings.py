"""Recordings of first runs: what a person sees, command by command, as text in docs/first-runs.

`make recordings` makes them in a fresh clone. A first hour makes them again and compares: numbers,
times and ids may differ, words may not.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff

from tests.first_hour.newcomer import Newcomer

FOLDER = "docs/first-runs"
#: What differs from run to run: times, numbers with their units, ids in hexadecimal digits.
_VARIES = re.compile(
    r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-][\d:]+)?"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b"
    r"|\d[\d,.:]*(?: ?(?:ms|us|s|min|MB|kB|KB|B|%)(?![a-z]))?"
)
#: Lines that a run may have or lack: downloads depend on what pip has in its cache, and the pace of
#: the store on what else the machine does.
_OPTIONAL = re.compile(r"setup: (downloading|making|unpacking)|\S+ \w+ health: the store ")
#: Ages of something that has just happened.
_JUST_NOW = re.compile(r"just now|# ago")


@dataclass(frozen=True)
class Step:
    """One command of a session."""

    command: str
    until: str = ""
    """The command goes on in the background once it has printed this text."""
    status: int = 0
    """The exit status."""


@dataclass(frozen=True)
class Session:
    """Commands that a person types one after the other."""

    name: str
    title: str
    steps: tuple[Step, ...]

    @property
    def path(self) -> str:
        """The file of the recording."""
        return f"{FOLDER}/{self.name}.txt"


ACTIVATE = Step(". .venv/bin/activate")
SERVE = Step("feedsvc serve", until="try next")

SESSIONS = (
    Session(
        "application-engineer",
        "An application engineer: the demo, a server, a feed that is followed live.",
        (
            Step("make demo"),
            ACTIVATE,
            SERVE,
            Step("feedsvc follow bob alice"),
            Step("feedsvc tail bob", until="\n"),
            Step('feedsvc publish alice star repo:linux --content "Neat!"'),
            Step("feedsvc feed bob"),
            Step("feedsvc publish alice '' repo:linux", status=1),
        ),
    ),
    Session(
        "data-engineer",
        "A data engineer: files are checked, imported, corrected and imported again.",
        (
            ACTIVATE,
            SERVE,
            Step(
                "printf 'follower,followee\\nbob,alice\\nbob,carol\\ndora,alice\\n' > follows.csv"
            ),
            Step(
                "printf 'user_name\\trepo\\tat\\n"
                "alice\\tlinux\\t2026-11-01T09:00:00Z\\n"
                "carol\\tredis\\tyesterday\\n"
                "\\tgrpc\\t2026-11-01T09:05:00Z\\n"
                "alice\\tvalkey\\t2026-11-01T09:10:00Z\\n' > stars.tsv"
            ),
            Step("feedsvc import follows.csv stars.tsv", status=1),
            Step(
                "feedsvc import stars.tsv --map actor=user_name,object=repo,time=at "
                "--set verb=star --dry-run",
                status=1,
            ),
            Step("feedsvc import follows.csv"),
            Step(
                "feedsvc import stars.tsv --map actor=user_name,object=repo,time=at "
                "--set verb=star --rejects rejects.tsv",
                status=1,
            ),
            Step("cat rejects.tsv.reasons"),
            Step(
                "sed -i 's/yesterday/2026-11-01T09:02:00Z/; s/^\\t/carol\\t/' rejects.tsv && "
                "feedsvc import rejects.tsv --map actor=user_name,object=repo,time=at "
                "--set verb=star"
            ),
            Step("feedsvc feed bob"),
        ),
    ),
    Session(
        "operator",
        "An operator: a server starts, is asked how it is, and stops.",
        (
            ACTIVATE,
            Step("feedsvc serve --outbox-cap 500", status=1),
            Step("feedsvc serve --redis-url redis://127.0.0.1:1", status=1),
            SERVE,
            Step("feedsvc serve --data-dir data2", status=1),
            Step("feedsvc serve --port 50052", status=1),
            Step("feedsvc status"),
            Step("feedsvc follow bob alice"),
            Step("feedsvc publish alice star repo:linux"),
            Step("feedsvc feed bob > feed.txt"),
            Step("feedsvc publish '' star repo:linux", status=1),
            Step("feedsvc stats bob"),
            Step("feedsvc verify bob"),
            Step("feedsvc fanout"),
            Step("feedsvc dead-letters"),
            Step("feedsvc status --server localhost", status=2),
            Step("feedsvc status --server 127.0.0.1:1", status=1),
        ),
    ),
)


def record(newcomer: Newcomer, session: Session) -> str:
    """Run the session and return the text of its recording. Raise CommandFailed."""
    parts = [f"{session.title}\n"]
    for step in session.steps:
        if step is ACTIVATE:
            newcomer.activate()
            output = ""
        else:
            output = newcomer.type(step.command, until=step.until, status=step.status)
        mark = " &" if step.until else ""
        parts.append(f"\n$ {step.command}{mark}\n{_tidy(output, newcomer)}")
    for command, output in newcomer.end_background():
        if output.strip():
            parts.append(
                f"\n`{command}` has printed meanwhile, Ctrl-C included:\n{_tidy(output, newcomer)}"
            )
    return "".join(parts)


def difference(committed: str, made: str) -> str:
    """Return the lines in which two recordings differ in words, or an empty text."""
    before, after = (list(_masked(text)) for text in (committed, made))
    return "\n".join(unified_diff(before, after, "committed", "made now", lineterm="", n=1))


def _masked(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not _OPTIONAL.match(line):
            words = _JUST_NOW.sub("now", _VARIES.sub("#", line))
            yield re.sub(r"[ ─━╸╺]+", " ", words).rstrip()


def _tidy(output: str, newcomer: Newcomer) -> str:
    text = output.replace(str(newcomer.clone), "~/feedsvc")
    text = re.sub(r"making \.venv with \S*/", "making .venv with ", text)
    text = text.replace(f" on {socket.gethostname()},", " on myhost,")
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())
