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
from rich.text import Text

from feedsvc.cli.connection import call_server, json_option, server_option
from feedsvc.cli.importing.files import ImportFile
from feedsvc.cli.importing.formats import FORMATS
from feedsvc.cli.importing.importer import CALL_SECONDS, Importer, Report, ServerUnavailable
from feedsvc.cli.rendering import borderless_table, console, plain

#: Malformed and refused lines that are reported one by one. Further ones are only counted.
MAX_COMPLAINTS = 20


@click.command("import", short_help="Import follows and activities from files.")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option(
    "--preset",
    type=click.Choice(sorted(FORMATS)),
    default="canonical",
    show_default=True,
    help="Format of the lines; see above.",
)
@click.option(
    "--warm",
    is_flag=True,
    help="After the follows, warm the feed of every entity in FILES: its first read is fast then.",
)
@click.option(
    "--wait-for-delivery",
    is_flag=True,
    help="Wait until each batch is delivered. Slower, but the totals include all deliveries.",
)
@json_option("Print the result as one JSON object, and no progress.")
@server_option
def import_command(  # noqa: PLR0913 - an import has that many sides
    *,
    files: Sequence[str],
    preset: str,
    warm: bool,
    wait_for_delivery: bool,
    as_json: bool,
    server: str,
) -> None:
    """Import follows and activities from FILES, plain or gzip; - is standard input.

    All follows are made before the first activity is published. A line that is malformed or refused
    is reported, and the import goes on.

    Importing a file again changes nothing. An activity without an external id gets one that is
    made from its line. Identical lines of one file are different activities; identical lines of two
    files are the same activity.

    Activities for many followers are queued on the server, and its workers deliver them. When too
    many deliveries wait there, the import waits too.

    \b
    canonical  each line {"activity": {...}}, an Activity as JSON, or
               {"follow": {"follower": "...", "followee": "..."}}
    higgs      columns: actor target unixtime RT|MT|RE, or follower followee [anything];
               reads SNAP's lists of edges too
    gharchive  GitHub events, reduced: {"id", "actor", "verb", "object", "target", "time", ...}

    \b
    With --json the result has
    follows, activities   new ones
    duplicates            follows and activities that were there before
    deliveries            deliveries to warm feeds that had ended when the server answered
    skipped_cold          followers with cold feeds, whose next read finds the activity
    pulled                followers of celebrities, whose reads fetch the activity
    queued                activities whose delivery had not ended when the server answered
    refused, malformed    lines: refused ones by reason, malformed ones in all
    warmed                feeds made warm, with --warm
    seconds               duration of the import
    """  # noqa: D301 (click's mark: keep these lines)
    with ExitStack() as resources:
        try:
            import_files = [ImportFile(path, resources) for path in files]
        except OSError as error:
            raise click.ClickException(f"cannot open {error.filename}: {error.strerror}") from None
        watcher = resources.enter_context(_Progress(quiet=as_json))

        async def work(client: FeedClient) -> Report:
            importer = Importer(
                client, FORMATS[preset], watcher, wait_for_delivery=wait_for_delivery
            )
            return await importer.run(import_files, warm=warm)

        try:
            report = call_server(server, work, timeout=CALL_SECONDS, request_ids=False)
        except ServerUnavailable as error:
            raise click.ClickException(
                f"gave up, because the server at {server} accepted nothing for a minute: {error}; "
                "import the same files again to go on from here"
            ) from None
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        _print_report(report)


class _Progress:
    """A progress bar for each step, if stderr is a terminal, and complaints, both on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self._out = Console(stderr=True, soft_wrap=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            _CountAndRate(),
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
        if (unreported := self._complaints - MAX_COMPLAINTS) > 0:
            self._out.print(f"... and {unreported:,} more lines")

    def begin(self, step: str, total: int) -> None:
        self._step = self._progress.add_task(step, total=total, count=0)

    def advance(self, done: int, count: int) -> None:
        if self._step is not None:
            self._progress.update(self._step, completed=done, count=count)

    def complain(self, location: str, text: str) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            self._out.print(Text(plain(f"{location}: {text}")))


class _CountAndRate(ProgressColumn):
    """The number of rows or feeds, in all and each second."""

    def render(self, task: Task) -> Text:
        count = int(task.fields["count"])
        elapsed = task.finished_time or task.elapsed
        rate = f"{count / elapsed:>9,.0f}/s" if elapsed else ""
        return Text(f"{count:>11,}{rate}")


def _print_report(report: Report) -> None:
    table = borderless_table()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    rows: list[tuple[str, int, str]] = [
        ("follows", report.follows, ""),
        ("activities", report.activities, ""),
        ("deliveries", report.deliveries, "to warm feeds"),
        ("skipped cold", report.skipped_cold, "followers, whose next read finds the activity"),
        ("pulled", report.pulled, "followers of celebrities, whose reads fetch the activity"),
        ("queued", report.queued, "activities, being delivered: see feedsvc fanout"),
        ("duplicates", report.duplicates, "were there before"),
        *(("refused", count, reason) for reason, count in report.refused.most_common()),
        ("malformed", report.malformed, ""),
    ]
    if report.warmed is not None:
        rows.insert(0, ("warmed", report.warmed, "feeds"))
    for name, count, note in rows:
        if count or name in {"follows", "activities"}:
            table.add_row(name, f"{count:,}", note)
    table.add_row("seconds", f"{report.seconds:.1f}", "")
    console().print(table)
