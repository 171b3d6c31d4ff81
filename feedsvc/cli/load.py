"""``feedsvc import``."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import click
from activityfeed import FeedClient
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from feedsvc.cli.connection import json_option, server_option, talk
from feedsvc.cli.importing import CALL_SECONDS, Import, Report, Unavailable
from feedsvc.cli.rows import PRESETS
from feedsvc.cli.show import console, plain
from feedsvc.cli.sources import Source

#: Malformed and refused lines that are told one by one; the others are counted.
COMPLAINTS = 20


@click.command("import", short_help="Import follows and activities from files.")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    default="canonical",
    show_default=True,
    help="What the lines are; see above.",
)
@click.option(
    "--warm",
    is_flag=True,
    help="Materialise the feed of every user that appears, after the follows.",
)
@click.option(
    "--wait-for-delivery",
    "wait",
    is_flag=True,
    help="Wait until each batch is delivered: slower, but the totals are whole.",
)
@json_option("Print the result as one JSON object, and no progress.")
@server_option
def load(  # noqa: PLR0913 - an import has that many sides
    *, files: Sequence[str], preset: str, warm: bool, wait: bool, as_json: bool, server: str
) -> None:
    """Import follows and activities from FILES, of which - is standard input.

    Plain or gzip. All follows are made before the first activity is published. A line that is
    malformed or refused is reported, and the import goes on.

    Importing a file again changes nothing. An activity without an external id gets one that is
    made from its line; identical lines of one file are told apart by counting them, and an
    identical line of another file is the same activity.

    What goes to many followers is queued on the server, and delivered by its workers. When too much
    is waiting there, the import waits too.

    \b
    canonical  each line {"activity": {...}}, an Activity as JSON, or
               {"follow": {"follower": "...", "followee": "..."}}
    higgs      columns: actor target unixtime RT|MT|RE, or follower followee [anything];
               reads SNAP's lists of edges too
    gharchive  GitHub events, reduced: {"id", "actor", "verb", "object", "target", "time", ...}

    \b
    With --json: follows and activities that were new; deliveries to warm feeds and followers
    skipped_cold, of what was delivered when the server answered; followers pulled, whose reads
    fetch it themselves; queued activities, which were not yet delivered; duplicates (was there
    before), refused by reason, malformed, seconds, and with --warm the feeds warmed.
    """  # noqa: D301 (click's mark: keep these lines)
    with ExitStack() as resources:
        try:
            sources = [Source(path, resources) for path in files]
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from None
        watcher = resources.enter_context(_Progress(quiet=as_json))

        async def work(client: FeedClient) -> Report:
            importing = Import(client, PRESETS[preset], watcher, wait=wait)
            return await importing.run(sources, warm=warm)

        try:
            report = talk(server, work, timeout=CALL_SECONDS, request_ids=False)
        except Unavailable as error:
            raise click.ClickException(
                f"gave up, because the server at {server} takes no more: {error}; importing again "
                "goes on from here"
            ) from None
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        _print(report)


class _Progress:
    """A bar a step on stderr, if that is a terminal, and complaints."""

    def __init__(self, *, quiet: bool) -> None:
        self._out = Console(stderr=True, soft_wrap=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._out,
            disable=quiet or not self._out.is_terminal,
        )
        self._step: TaskID | None = None
        self._complaints = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if (more := self._complaints - COMPLAINTS) > 0:
            self._out.print(f"... and {more:,} more lines")

    def begin(self, step: str, total: int) -> None:
        self._step = self._progress.add_task(step, total=total, count=0)

    def advance(self, done: int, count: int) -> None:
        if self._step is not None:
            self._progress.update(self._step, completed=done, count=count)

    def complain(self, place: str, text: str) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            self._out.print(Text(plain(f"{place}: {text}")))


class _Rate(ProgressColumn):
    """How many rows or feeds, and how many a second."""

    def render(self, task: Task) -> Text:
        count = int(task.fields["count"])
        elapsed = task.finished_time or task.elapsed
        rate = f"{count / elapsed:>9,.0f}/s" if elapsed else ""
        return Text(f"{count:>11,}{rate}")


def _print(report: Report) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    rows: list[tuple[str, int, str]] = [
        ("follows", report.follows, ""),
        ("activities", report.activities, ""),
        ("deliveries", report.deliveries, "to warm feeds"),
        ("skipped cold", report.skipped_cold, "followers, whose next read finds the activity"),
        ("pulled", report.pulled, "followers, whose reads fetch it themselves"),
        ("queued", report.queued, "activities, being delivered: see feedsvc fanout"),
        ("duplicates", report.duplicates, "were there before"),
        *(("refused", count, why) for why, count in report.refused.most_common()),
        ("malformed", report.malformed, ""),
    ]
    if report.warmed is not None:
        rows.insert(0, ("warmed", report.warmed, "feeds"))
    for name, count, note in rows:
        if count or name in {"follows", "activities"}:
            table.add_row(name, f"{count:,}", note)
    table.add_row("seconds", f"{report.seconds:.1f}", "")
    console().print(table)
