"""``feedsvc import``."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import click
import grpc
import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.follow_service_pb2 import GetFollowCountsRequest

from feedsvc.cli.connection import call_server, explain, json_option, server_option
from feedsvc.cli.exit_statuses import INTERRUPTED, TERMINATED
from feedsvc.cli.importing.importer import (
    CALL_SECONDS,
    Importer,
    ServerUnavailable,
    TooManyRejects,
)
from feedsvc.cli.importing.progress import ImportProgress
from feedsvc.cli.importing.rejects import RejectsFile, RejectsUnwritable
from feedsvc.cli.importing.report import Report
from feedsvc.cli.importing.sources import (
    FORMAT_NAMES,
    Source,
    UnusableFile,
    check_first_rows,
    check_rejects_fit,
    open_sources,
)
from feedsvc.cli.importing.tables import (
    ACTIVITY_FIELDS,
    FOLLOW_FIELDS,
    TableOptions,
    WrongOption,
)
from feedsvc.cli.rendering import borderless_table, console
from feedsvc.cli.standard_streams import OutputFailed

_SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_AGAIN = "import the same files again to go on: what is there already counts as a duplicate"

#: A file of each format, as `--help` shows it.
EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "jsonl": '{"follow": {"follower": "bob", "followee": "alice"}}\n'
        '{"activity": {"actor": "alice", "verb": "star", "object": {"id": "repo:linux"}, '
        '"to": ["repo:linux"], "publishTime": "2026-01-31T12:00:00Z"}}\n',
        "tsv": "follower\tfollowee\nbob\talice\n",
        "csv": "actor,verb,object,to,content,time\n"
        'alice,star,repo:linux,repo:linux|topic:os,"Neat, ""really"" neat!",2026-01-31T12:00:00Z\n',
        "higgs": "223789 213163 1341100972 RT\n223789 213163\n",
        "gharchive": '{"id": "5", "actor": "alice", "verb": "Push", "object": "ref:main", '
        '"target": "repo:linux", "time": "2026-01-31T12:00:00Z"}\n',
    }
)


def _indented(name: str) -> str:
    """Return an example as lines of `--help`, in which a tab has a name."""
    return "".join(f"  {line}\n" for line in EXAMPLES[name].replace("\t", "<tab>").splitlines())


_HELP = f"""Import follows and activities from FILES, plain or gzip; - is standard input.

All follows are made before the first activity is published. A line that is malformed or refused is
reported, and the import goes on; --rejects writes such lines to a file. If the first 1,000 rows of
a file are all wrong, nothing is imported.

Importing a file again changes nothing, so an interrupted import goes on when the same files are
imported again. An activity without an external id gets one that is made from its row: the line of
jsonl, higgs and gharchive, and the cells of tsv and csv. Identical rows of one file are different
activities; identical rows of two files are the same activity.

Activities for many followers are queued on the server, and its workers deliver them. When too many
deliveries wait there, the import waits too.

\b
jsonl      an object on each line: a follow, or an activity in the contract's JSON
{_indented("jsonl")}
\b
tsv        a header line, and cells between tabs; \\t \\n \\r \\\\ are escapes, and the
           cell \\N is empty
{_indented("tsv")}
\b
csv        a header line, and cells between commas; a cell in quotes may hold
           commas, line ends and doubled quotes
{_indented("csv")}
\b
higgs      actor target unixtime RT|MT|RE, or follower followee [anything];
           reads SNAP's lists of edges too
{_indented("higgs")}
\b
gharchive  GitHub events, reduced; further fields become `extra`
{_indented("gharchive")}
The header line of tsv and csv names fields. A file has follows, with the fields
{" and ".join(FOLLOW_FIELDS)}, or activities, with the fields
{", ".join(ACTIVITY_FIELDS)} and extra.NAME.
Every activity needs actor and verb. An empty cell is no value. `object` and `target` are your ids,
`object_entity` and `target_entity` are entities. `to` and `mentions` hold entities with | between
them. `audience` is followers or to_only. `time` is RFC 3339, in UTC if it has no offset, or Unix
seconds, milliseconds, microseconds or nanoseconds. `extra` is a JSON object; extra.NAME is a text
in it. A file with other columns is not imported until --map or --ignore names them:

\b
  feedsvc import stars.csv --map actor=user_name,object=repo,to=repo \\
      --set verb=star --ignore stars_id

\b
With --json the result has
follows, activities   new ones
duplicates            follows and activities that were there before
deliveries            deliveries to warm feeds that had ended when the server answered
skipped_cold          followers with cold feeds, whose next read finds the activity
pulled                followers of celebrities, whose reads fetch the activity
queued                activities whose delivery had not ended when the server answered
refused, malformed    rows: refused ones by reason, malformed ones in all
rows                  all rows, with the refused and malformed ones
rejects               the first 20 refused and malformed rows: file, line and rule
damaged_files         files that cannot be read to their end, with the reasons
interrupted           true after Ctrl-C or SIGTERM
error                 the reason why the import ended early, if an error ended it
dry_run               true with --dry-run
warmed                feeds made warm, with --warm
seconds               duration of the import

Exit status: 0 if all rows were imported; 1 if a row was malformed or refused, a file is damaged or
the import failed; 2 for wrong options; {INTERRUPTED} after Ctrl-C; {TERMINATED} after SIGTERM.
"""


@click.command("import", short_help="Import follows and activities from files.", help=_HELP)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMAT_NAMES),
    help="Format of the files; see above.  [default: by the file's name: .tsv, .csv, else jsonl]",
)
@click.option("--preset", type=click.Choice(["canonical", "gharchive", "higgs"]), hidden=True)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="FIELD=COLUMN,...",
    help="Take FIELD from COLUMN, in tsv and csv. A column may give several fields. Repeatable.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Give every row of tsv and csv this FIELD. Repeatable.",
)
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="COLUMN,...",
    help="Leave out COLUMN, in tsv and csv; '*' is every column that gives no field. Repeatable.",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    help="Names of the columns, in order, of tsv and csv files without a header line; - is a "
    "column to leave out.",
)
@click.option(
    "--separator",
    default="|",
    show_default=True,
    metavar="TEXT",
    help="Text between the entities of `to` and `mentions`, in tsv and csv.",
)
@click.option(
    "--rejects",
    "rejects_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write rows that are malformed or refused to FILE as they stand, and their lines and "
    "reasons to FILE.reasons. Correct FILE and import it in the same way. Replaces earlier FILEs.",
)
@click.option(
    "--max-rejects",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Stop when more rows than this are malformed or refused.  [default: no limit]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check all rows by the rules of the service, and import nothing. Needs no server.",
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
    format_name: str | None,
    preset: str | None,
    maps: Sequence[str],
    constants: Sequence[str],
    ignored: Sequence[str],
    columns: str | None,
    separator: str,
    rejects_path: Path | None,
    max_rejects: int | None,
    dry_run: bool,
    warm: bool,
    wait_for_delivery: bool,
    as_json: bool,
    server: str,
) -> None:
    """Import follows and activities from files."""
    if preset:
        if format_name:
            raise click.UsageError("--preset is an older name of --format: give one of them")
        format_name = {"canonical": "jsonl"}.get(preset, preset)
    with ExitStack() as resources:
        options = _table_options(columns, maps, constants, ignored, separator)
        sources, rejects_file = _prepare(files, format_name, options, rejects_path, resources)
        progress = resources.enter_context(ImportProgress(quiet=as_json))
        for source in sources:
            if not source.file.size:
                progress.say(f"{source.name}: is empty")
        run = _Run(
            progress, rejects_file, wait_for_delivery=wait_for_delivery, max_rejects=max_rejects
        )
        if dry_run:
            asyncio.run(run.work(None, sources, server, warm=False))
        else:
            call_server(
                server,
                lambda client: run.work(client, sources, server, warm=warm),
                timeout=CALL_SECONDS,
                request_ids=False,
            )
    run.finish(as_json=as_json, dry_run=dry_run)


class _Run:
    """One run of the import to its end, whatever ends it."""

    def __init__(
        self,
        progress: ImportProgress,
        rejects_file: RejectsFile | None,
        *,
        wait_for_delivery: bool,
        max_rejects: int | None,
    ) -> None:
        self._progress = progress
        self._rejects_file = rejects_file
        self._wait_for_delivery = wait_for_delivery
        self._max_rejects = max_rejects
        self._report = Report()
        self._signal: signal.Signals | None = None

    async def work(
        self, client: FeedClient | None, sources: Sequence[Source], server: str, *, warm: bool
    ) -> None:
        """Import the files. Raise AioRpcError if no server answers at the beginning."""
        if client is not None:
            # This call fails at once if no server is there. Later calls are repeated for a minute.
            await client.follows.GetFollowCounts(GetFollowCountsRequest(entity="import"))
        importer = Importer(
            client,
            self._progress,
            self._rejects_file,
            wait_for_delivery=self._wait_for_delivery,
            max_rejects=self._max_rejects,
        )
        self._report = importer.report
        progress_lines = asyncio.create_task(self._progress.write_lines())
        try:
            self._signal = await _run_until_signal(importer.run(sources, warm=warm))
        except ServerUnavailable as error:
            self._report.error = (
                f"gave up, because the server at {server} accepted nothing for a minute: {error}; "
                "import the same files again to go on from here"
            )
        except grpc.aio.AioRpcError as error:
            self._report.error = f"{explain(error, server)}; {_AGAIN}"
        except (RejectsUnwritable, TooManyRejects) as error:
            self._report.error = f"{error}; {_AGAIN}"
        finally:
            progress_lines.cancel()
        self._report.interrupted = self._signal is not None

    def finish(self, *, as_json: bool, dry_run: bool) -> None:
        """Print the result and exit with its status. Raise OutputFailed."""
        report = self._report
        failure: OutputFailed | None = None
        try:
            _print_result(report, as_json=as_json, dry_run=dry_run)
        except OutputFailed as error:
            failure = error
        for text in self._last_lines(dry_run=dry_run):
            self._progress.say(text)
        if self._signal is not None:
            sys.exit(_SIGNALS[self._signal])
        if report.error or report.rejected or report.damaged_files:
            sys.exit(1)
        if failure is not None:
            raise failure
        sys.exit(0)

    def _last_lines(self, *, dry_run: bool) -> list[str]:
        report = self._report
        texts = []
        verb = "cannot be imported" if dry_run else "were not imported"
        if report.damaged_files:
            names = ", ".join(report.damaged_files)
            texts.append(f"not read to the end: {names}; the rows after that {verb}")
        if report.rejected:
            texts.append(f"{report.rejected:,} of {report.rows:,} rows {verb}; {self._advice()}")
        if report.error:
            texts.append(f"Error: {report.error}")
        if self._signal is not None:
            texts.append("interrupted" if dry_run else f"interrupted; {_AGAIN}")
        return texts

    def _advice(self) -> str:
        if self._rejects_file is None:
            return "--rejects FILE writes them to a file"
        path, reasons_path = self._rejects_file.path, self._rejects_file.reasons_path
        return f"{path} has them, and {reasons_path} says why"


def _table_options(
    columns: str | None,
    maps: Sequence[str],
    constants: Sequence[str],
    ignored: Sequence[str],
    separator: str,
) -> TableOptions:
    if not separator:
        raise click.UsageError("--separator must not be empty")
    try:
        return TableOptions.parse(columns, maps, constants, ignored, separator)
    except WrongOption as error:
        raise click.UsageError(str(error)) from None


def _prepare(
    files: Sequence[str],
    format_name: str | None,
    options: TableOptions,
    rejects_path: Path | None,
    resources: ExitStack,
) -> tuple[list[Source], RejectsFile | None]:
    """Open and check all files before the first row is sent. A signal ends the command."""
    terminate = signal.signal(signal.SIGTERM, _raise)
    try:
        sources = open_sources(files, format_name, options, resources)
        for source in sources:
            check_first_rows(source)
        return sources, _open_rejects(rejects_path, sources, resources)
    except WrongOption as error:
        raise click.UsageError(str(error)) from None
    except (UnusableFile, RejectsUnwritable) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt as interrupt:
        click.echo("interrupted: nothing was imported", err=True)
        sys.exit(_SIGNALS[_signal_of(interrupt)])
    finally:
        signal.signal(signal.SIGTERM, terminate)


def _open_rejects(
    path: Path | None, sources: Sequence[Source], resources: ExitStack
) -> RejectsFile | None:
    if path is None:
        return None
    check_rejects_fit(sources)
    for rejects_path in RejectsFile.paths(path):
        for source in sources:
            with suppress(OSError):
                if os.path.samestat(rejects_path.stat(), source.file.status):
                    raise WrongOption(f"--rejects would replace {source.name}, which is imported")
    header = next((source.header for source in sources if source.header), b"")
    return RejectsFile(path, header, resources)


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt with the signal, as Python does after Ctrl-C."""
    del frame
    raise KeyboardInterrupt(signal.Signals(number))


def _signal_of(interrupt: KeyboardInterrupt) -> signal.Signals:
    return interrupt.args[0] if interrupt.args else signal.SIGINT


async def _run_until_signal(work: Coroutine[Any, Any, None]) -> signal.Signals | None:
    """Do the work. A signal cancels the work, and is returned."""
    task = asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    # A shell lets its background jobs ignore Ctrl-C.
    signals = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in signals:
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    return received[0] if received else None


def _print_result(report: Report, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_dict() | {"dry_run": dry_run}))
    else:
        _print_table(report, dry_run=dry_run)
    sys.stdout.flush()


def _print_table(report: Report, *, dry_run: bool) -> None:
    table = borderless_table()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    good = "would be imported" if dry_run else ""
    rows: list[tuple[str, int, str]] = [
        ("follows", report.follows, good),
        ("activities", report.activities, good),
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
