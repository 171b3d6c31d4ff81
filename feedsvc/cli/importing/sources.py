"""Files with their formats, checked before the import begins."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple

from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.follow_service_pb2 import FollowRequest

from feedsvc import validation
from feedsvc.cli.importing.csv_rows import csv_rows
from feedsvc.cli.importing.files import DamagedFile, ForeignFile, ImportFile, Line
from feedsvc.cli.importing.formats import FORMATS, ActivityRow, Format, MalformedLine, Row, decode
from feedsvc.cli.importing.tables import (
    READERS,
    TABLE_FORMATS,
    Table,
    TableOptions,
    WrongColumns,
    WrongOption,
    is_field,
)
from feedsvc.errors import InvalidRequest

#: Rows of a file of which at least one must be good, or the import does not begin.
FIRST_ROWS = 1_000
#: Names of all formats.
FORMAT_NAMES = ("jsonl", *TABLE_FORMATS, "higgs", "gharchive")


class UnusableFile(Exception):
    """A file cannot be imported at all; the message names the file and says what to do."""


@dataclass(frozen=True, eq=False)
class Source:
    """A file and its format."""

    file: ImportFile
    format_name: str
    parse: Format
    """Function from a line to its row."""
    header: bytes = b""
    """The header line with its end; empty if the file has none."""

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.file.name

    def lines(self) -> Iterator[Line]:
        """Yield the lines of rows, without the header line. Raise DamagedFile."""
        return islice(_all_lines(self.file, self.format_name), bool(self.header), None)

    def row(self, line: Line) -> Row | None:
        """Return the row of a line, or None if the line holds nothing. Raise MalformedLine."""
        if line.problem:
            raise MalformedLine(line.problem)
        return self.parse(line.content)

    def explain(self, violations: Sequence[tuple[str, str]]) -> str:
        """Return broken rules in words: pairs of a path in the request, and the field's rule."""
        return "; ".join(
            f"{self._source_of(path) or 'the request'}: {rule}" for path, rule in violations
        )

    def _source_of(self, path: str) -> str:
        return self.parse.source_of(path) if isinstance(self.parse, Table) else path


class Location(NamedTuple):
    """A row's file and line."""

    source: Source
    line: Line


def open_sources(
    paths: Sequence[str], format_name: str | None, options: TableOptions, resources: ExitStack
) -> list[Source]:
    """Open all files until ``resources`` is closed.

    Raise UnusableFile if a file is of another kind or its columns do not fit, and WrongOption if
    an option fits no file.
    """
    sources = [_open(path, format_name, options, resources) for path in paths]
    tables = [source.parse for source in sources if isinstance(source.parse, Table)]
    if options and not any(source.format_name in TABLE_FORMATS for source in sources):
        raise WrongOption(
            f"--columns, --map, --set and --ignore are for --format tsv and csv; "
            f"{sources[0].name} is read as {sources[0].format_name}"
        )
    if tables:
        _check_options(tables, options)
    return sources


def _check_options(tables: Sequence[Table], options: TableOptions) -> None:
    """Raise WrongOption if an option names a column or a field that no file has."""
    names = {name for table in tables for name in table.names}
    for option, columns in (("--map", options.columns.values()), ("--ignore", options.ignored)):
        for column in columns:
            if column not in {"*", *names}:
                raise WrongOption(
                    f"{option} names the column {column}, but the columns are "
                    f"{', '.join(sorted(names))}"
                )
    for name in options.constants:
        if not any(name in table.given_fields for table in tables):
            kind = "follows" if tables[0].has_follows else "activities"
            raise WrongOption(f"--set gives {name}, which {kind} do not have")


def check_rejects_fit(sources: Sequence[Source]) -> None:
    """Raise WrongOption if the rejects of all sources cannot be rows of one file."""
    first, *others = [source for source in sources if source.file.size] or sources
    for source in others:
        if (source.format_name, source.header.rstrip()) != (
            first.format_name,
            first.header.rstrip(),
        ):
            raise WrongOption(
                "--rejects writes a file of one format with one header line, and "
                f"{first.name} and {source.name} differ: import them one after the other"
            )


def check_first_rows(source: Source) -> None:
    """Raise UnusableFile if all the first rows of a file are malformed or break a rule."""
    reasons: list[str] = []
    first_bad: tuple[Line, str] | None = None
    with suppress(DamagedFile):
        for line in source.lines():
            try:
                broken_rules = rules_broken_by(source, line)
            except MalformedLine as error:
                broken_rules = str(error)
            if broken_rules is None:
                continue
            if not broken_rules:
                return
            reasons.append(broken_rules)
            first_bad = first_bad or (line, broken_rules)
            if len(reasons) >= FIRST_ROWS:
                break
    if first_bad is None or len(reasons) < FIRST_ROWS:
        return
    line, reason = first_bad
    raise UnusableFile(
        f"{source.name}: none of the first {FIRST_ROWS:,} rows can be imported, so nothing was "
        f"imported. Line {line.number}: {reason}. {_advice(source, line)}"
    )


def rules_broken_by(source: Source, line: Line) -> str | None:
    """Return the rules of the service that a line breaks, or None if the line holds no row.

    Raise MalformedLine.
    """
    row = source.row(line)
    if row is None:
        return None
    if isinstance(row, ActivityRow):
        return violated_rules(source, PublishActivityRequest(activity=row.build()))
    return violated_rules(source, row)


def violated_rules(source: Source, request: FollowRequest | PublishActivityRequest) -> str:
    """Return the rules of the service that a request breaks; empty if it breaks none."""
    try:
        validation.check(request)
    except InvalidRequest as error:
        return source.explain([(broken.field, broken.rule) for broken in error.violations])
    return ""


def _open(
    path: str, format_name: str | None, options: TableOptions, resources: ExitStack
) -> Source:
    name = "<stdin>" if path == "-" else path
    try:
        file = ImportFile(path, resources)
    except OSError as error:
        raise UnusableFile(f"{name} cannot be opened: {error.strerror or error}") from None
    except ForeignFile as error:
        raise UnusableFile(f"{name} {error}") from None
    format_name = format_name or _format_of(path)
    if format_name not in TABLE_FORMATS:
        return Source(file, format_name, FORMATS[format_name])
    try:
        return _open_table(file, format_name, options)
    except (WrongColumns, MalformedLine) as error:
        raise UnusableFile(f"{name}: {error}") from None


def _open_table(file: ImportFile, format_name: str, options: TableOptions) -> Source:
    read_cells = READERS[format_name]
    first_line = Line(1, b"")
    with suppress(DamagedFile):
        lines = _all_lines(file, format_name)
        first_line = next((line for line in lines if line.raw or line.problem), first_line)
    if first_line.problem:
        raise MalformedLine(f"the header line {first_line.problem}")
    if not first_line.raw:  # the file is empty or damaged, which the import reports
        return Source(file, format_name, _no_row)
    if first_line.content.startswith(b"{"):
        raise WrongColumns(f"its lines are JSON, not {format_name}: --format jsonl")
    try:
        cells = read_cells(decode(first_line.content))
    except MalformedLine as error:
        raise MalformedLine(f"the header line {error}") from None
    if not options.names:
        return Source(file, format_name, Table(read_cells, cells, options), first_line.raw)
    table = Table(read_cells, options.names, options)
    if list(options.names) == cells or all(map(is_field, cells)):
        raise WrongColumns(
            f"its first line is a header line, {', '.join(cells)}, and --columns is for files "
            "without a header line: leave --columns out"
        )
    return Source(file, format_name, table)


def _no_row(line: bytes) -> None:
    """Return None: the file has no header line, and so no rows."""
    del line


def _all_lines(file: ImportFile, format_name: str) -> Iterator[Line]:
    return csv_rows(file.lines()) if format_name == "csv" else file.lines()


def _format_of(path: str) -> str:
    suffix = PurePath(path.removesuffix(".gz")).suffix.removeprefix(".").lower()
    return suffix if suffix in TABLE_FORMATS else "jsonl"


def _advice(source: Source, line: Line) -> str:
    """Return what may be wrong with a file of which all rows are wrong."""
    text = line.content.strip()
    if source.format_name != "jsonl":
        return f"Is --format {source.format_name} right for this file?"
    if text.startswith(b"["):
        return "jsonl has one object on each line, not a list: jq -c '.[]' writes a list so"
    if text == b"{":
        return "jsonl has each object on one line: jq -c . writes objects so"
    if text.startswith(b"{"):
        return "feedsvc import --help shows the form of a line"
    return "Is the file --format tsv or csv?"
