"""Files with columns: tsv and csv, whose columns give the fields of follows or activities."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Self

from activityfeed.v1.activity_pb2 import (
    AUDIENCE_FOLLOWERS,
    AUDIENCE_TO_ONLY,
    Activity,
    Audience,
    Ref,
)
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from feedsvc.cli.importing.files import MAX_LINE_BYTES
from feedsvc.cli.importing.formats import (
    ActivityRow,
    MalformedLine,
    Row,
    decode,
    parse_json,
    parse_message,
)

#: The formats with columns.
TABLE_FORMATS = ("tsv", "csv")
#: The fields of a follow.
FOLLOW_FIELDS = ("follower", "followee")
#: The fields of an activity. ``extra.NAME`` is a field too, for every name.
ACTIVITY_FIELDS = (
    "actor",
    "verb",
    *(
        f"{ref}{part}"
        for ref in ("object", "target")
        for part in ("", "_entity", "_type", "_name", "_url")
    ),
    "to",
    "mentions",
    "audience",
    "content",
    "time",
    "external_id",
    "extra",
)
_REQUIRED_FIELDS = (*FOLLOW_FIELDS, "actor", "verb")
#: Pairs of fields of which a file gives at most one.
_EXCLUSIVE_FIELDS = (("object", "object_entity"), ("target", "target_entity"))
#: The field of a file that gives a field of the contract.
_FIELDS_OF_PATHS = {
    "publish_time": "time",
    **{
        f"{ref}.{part}": name
        for ref in ("object", "target")
        for part, name in (
            ("id", ref),
            ("subject", ref),
            ("entity", f"{ref}_entity"),
            ("type", f"{ref}_type"),
            ("name", f"{ref}_name"),
            ("url", f"{ref}_url"),
        )
    },
}
_AUDIENCES: Mapping[str, Audience] = MappingProxyType(
    {"followers": AUDIENCE_FOLLOWERS, "to_only": AUDIENCE_TO_ONLY}
)

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"\d{1,20}(\.\d{1,9})?", re.ASCII)
#: Units of Unix times, as powers of ten of a second, and the first number of each unit. The numbers
#: of two units cannot be confused: times of the contract are later than February 1985 and earlier
#: than the year 10000.
_UNIX_UNITS = ((9, 4 * 10**17), (6, 4 * 10**14), (3, 4 * 10**11), (0, 0))

_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
#: Characters of a cell that have an escape. A tab has one too, which the number of tabs shows.
_TO_ESCAPE = re.compile(r"[\n\r\\]")
_ESCAPED = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"})
#: The cell by which PostgreSQL writes that a value is missing.
_NULL = "\\N"

#: Python's limit for a cell is smaller than that of a line.
csv.field_size_limit(MAX_LINE_BYTES)


class WrongColumns(Exception):
    """The columns of a file do not fit; the message says why and what to do."""


class WrongOption(Exception):
    """An option names something that does not exist; the message says what does."""


@dataclass(frozen=True)
class TableOptions:
    """What gives the fields of rows, as the user states it for all files."""

    names: Sequence[str] = ()
    """Names of the columns of files without a header line; ``-`` is a column to leave out."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column by field, for columns that have another name than the field."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Text by field, for fields that are the same in all rows."""
    ignored: Collection[str] = ()
    """Columns that are left out; ``*`` stands for all columns that no field takes."""
    separator: str = "|"
    """Text between the entities of ``to`` and of ``mentions``."""

    @classmethod
    def parse(
        cls,
        columns: str | None,
        maps: Sequence[str],
        constants: Sequence[str],
        ignored: Sequence[str],
        separator: str,
    ) -> Self:
        """Return the options of the command line. Raise WrongOption for an unknown field."""
        return cls(
            names=_split(columns or ""),
            columns=_assignments(
                "--map", "COLUMN", [pair for text in maps for pair in _split(text)]
            ),
            constants=_assignments("--set", "VALUE", constants),
            ignored=frozenset(name for text in ignored for name in _split(text)),
            separator=separator,
        )

    def __bool__(self) -> bool:
        return bool(self.names or self.columns or self.constants or self.ignored)


def is_field(name: str) -> bool:
    """Return whether a follow or an activity has the field."""
    extra, _, extra_name = name.partition(".")
    return name in (*FOLLOW_FIELDS, *ACTIVITY_FIELDS) or (extra == "extra" and bool(extra_name))


def _split(text: str) -> list[str]:
    """Return the parts between commas. A part that has a comma stands in quotes, as in csv."""
    return next(csv.reader([text]), [])


def _assignments(option: str, value_name: str, pairs: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise WrongOption(f"{option} {pair}: write FIELD={value_name}")
        if not is_field(name):
            raise WrongOption(
                f"{option} {pair}: {name} is no field; write FIELD={value_name}. "
                f"The fields are {', '.join((*FOLLOW_FIELDS, *ACTIVITY_FIELDS))} and extra.NAME"
            )
        if name in values:
            raise WrongOption(f"{option} gives {name} twice")
        values[name] = value
    return values


class Table:
    """The format of one file with columns: a function from a row to a follow or an activity."""

    def __init__(
        self, read_cells: "ReadCells", names: Sequence[str], options: TableOptions
    ) -> None:
        """Find the column of each field. Raise WrongColumns if a column has no use or is missing.

        ``names`` are those of the file's columns.
        """
        self.names = names
        self._read_cells = read_cells
        self._separator = options.separator
        self._indexes = _indexes_of_fields(names, options)
        self.has_follows = _has_follows(self._indexes)
        fields = FOLLOW_FIELDS if self.has_follows else ACTIVITY_FIELDS
        self._constants = {
            name: text
            for name, text in options.constants.items()
            if name.partition(".")[0] in fields
        }
        self._check_fields(fields)

    @property
    def given_fields(self) -> Collection[str]:
        """The fields that the file or a constant gives."""
        return self._indexes.keys() | self._constants.keys()

    def __call__(self, line: bytes) -> Row | None:
        """Return the row of a line. Raise MalformedLine."""
        text = decode(line)
        if not text.strip(" \r\n"):
            return None
        cells = self._read_cells(text)
        if len(cells) != len(self.names):
            raise MalformedLine(f"has {_count(len(cells), 'column')} instead of {len(self.names)}")
        if self.has_follows:
            follower, followee = (self._required(name, cells) for name in FOLLOW_FIELDS)
            return FollowRequest(follower=follower, followee=followee)
        actor = self._required("actor", cells)
        return ActivityRow(actor, partial(self._build, cells), _identity(cells))

    def source_of(self, path: str) -> str:
        """Return what gives a field of the contract: a column, or an option.

        ``path`` is the field's path in a request, such as ``activity.to[3]``; it is returned if
        nothing gives the field.
        """
        name = path.removeprefix("activity.").partition("[")[0]
        name = _FIELDS_OF_PATHS.get(name, name)
        if name in self._indexes:
            return f"column {self.names[self._indexes[name]]}"
        return f"--set {name}" if name in self._constants else path

    def _check_fields(self, fields: Sequence[str]) -> None:
        kind = "follow" if self.has_follows else "activity"
        for name in fields:
            if name in self._indexes and name in self._constants:
                column = self.names[self._indexes[name]]
                raise WrongColumns(
                    f"both --set and the column {column} give the field {name}: "
                    f"leave --set out, or the column with --ignore {column}"
                )
            if name in _REQUIRED_FIELDS and name not in self.given_fields:
                raise WrongColumns(
                    f"no column gives the field {name}, which every {kind} needs: name the column "
                    f"with --map {name}=COLUMN, or one value for all rows with --set {name}=VALUE. "
                    f"The columns are {', '.join(self.names)}"
                )
        for name, other_name in _EXCLUSIVE_FIELDS:
            if {name, other_name} <= set(self.given_fields):
                raise WrongColumns(f"a row has {name} or {other_name}, not both")
        if "extra" in self.given_fields and any("." in name for name in self.given_fields):
            raise WrongColumns("a row has extra or fields of extra, such as extra.score, not both")

    def _required(self, name: str, cells: Sequence[str]) -> str:
        text = cells[self._indexes[name]] if name in self._indexes else self._constants[name]
        if not text:
            raise MalformedLine(f"{self.source_of(name)}: is empty, but the row needs its {name}")
        return text

    def _build(self, cells: Sequence[str]) -> Activity:
        texts = self._constants | {
            name: cells[index] for name, index in self._indexes.items() if cells[index]
        }
        activity = Activity(
            actor=texts["actor"],
            verb=self._required("verb", cells),
            object=_ref(texts, "object"),
            target=_ref(texts, "target"),
            to=self._entities(texts.get("to")),
            mentions=self._entities(texts.get("mentions")),
            content=texts.get("content"),
            external_id=texts.get("external_id"),
        )
        for name, text in texts.items():
            try:
                _set_parsed(activity, name, text)
            except MalformedLine as error:
                raise MalformedLine(f"{self.source_of(name)}: {error}") from None
        return activity

    def _entities(self, text: str | None) -> list[str]:
        return text.split(self._separator) if text else []


def _indexes_of_fields(names: Sequence[str], options: TableOptions) -> dict[str, int]:
    """Return the index of the column of each field."""
    for name, count in Counter(names).items():
        if count > 1 and name != "-":
            raise WrongColumns(f"{count} columns have the name {name or '(empty)'}")
    indexes = {
        name: names.index(column) for name, column in options.columns.items() if column in names
    }
    with_a_use = {"-", *options.columns.values(), *options.ignored}
    unused = []
    for index, name in enumerate(names):
        if name in with_a_use:
            continue
        if is_field(name) and name not in indexes:
            indexes[name] = index
        else:
            unused.append(name or "(empty)")
    if not indexes:
        raise WrongColumns(
            f"no column gives a field: the columns are {', '.join(names)}. Map "
            "them (--map FIELD=COLUMN), or, if the file has no header line, name its columns "
            "(--columns follower,followee). The fields are "
            f"{', '.join((*FOLLOW_FIELDS, *ACTIVITY_FIELDS))} and extra.NAME"
        )
    if unused and "*" not in options.ignored:
        column = unused[0]
        raise WrongColumns(
            f"no field takes {'the column' if len(unused) == 1 else 'the columns'} "
            f"{', '.join(unused)}. Map a column (--map FIELD={column}) or leave it out "
            f"(--ignore {column}; --ignore '*' for all). "
            f"The fields are {', '.join((*FOLLOW_FIELDS, *ACTIVITY_FIELDS))} and extra.NAME"
        )
    return indexes


def _has_follows(fields: Collection[str]) -> bool:
    """Return whether a file with columns for these fields has follows, and not activities."""
    of_follows = [name for name in fields if name in FOLLOW_FIELDS]
    of_activities = [name for name in fields if name not in FOLLOW_FIELDS]
    if of_follows and of_activities:
        raise WrongColumns(
            "a file has follows or activities, not both: "
            f"{', '.join(of_follows)} and {', '.join(of_activities)} do not belong together"
        )
    return bool(of_follows)


def _ref(texts: Mapping[str, str], name: str) -> Ref | None:
    ref = Ref(
        id=texts.get(name),
        entity=texts.get(f"{name}_entity"),
        type=texts.get(f"{name}_type"),
        name=texts.get(f"{name}_name"),
        url=texts.get(f"{name}_url"),
    )
    return ref if ref.ByteSize() else None


def _set_parsed(activity: Activity, name: str, text: str) -> None:
    """Set a field whose text has a form. Raise MalformedLine if the text has another form."""
    if name == "time":
        activity.publish_time.CopyFrom(parse_time(text))
    elif name == "audience":
        audience = _AUDIENCES.get(text.lower().removeprefix("audience_"))
        if audience is None:
            raise MalformedLine("must be followers or to_only")
        activity.audience = audience
    elif name == "extra":
        value = parse_json(text)
        if not isinstance(value, dict):
            raise MalformedLine("must be a JSON object")
        extra = Struct()
        parse_message(value, extra, "extra")
        activity.extra.CopyFrom(extra)
    elif name.startswith("extra."):
        activity.extra[name.removeprefix("extra.")] = text


def parse_time(text: str) -> Timestamp:
    """Return the time: RFC 3339, in UTC if it has no offset, or a Unix time.

    A Unix time is in seconds, milliseconds, microseconds or nanoseconds; its size says which.
    Raise MalformedLine if the text is no time.
    """
    try:
        if match := _TIME.fullmatch(text):
            date, time_of_day, offset = match.groups()
            if offset in {None, "Z", "z", "UTC"}:
                offset = "Z"
            elif ":" not in offset:
                offset = f"{offset[:3]}:{offset[3:] or '00'}"
            timestamp = Timestamp()
            timestamp.FromJsonString(f"{date}T{time_of_day}{offset}")
            return timestamp
        if _NUMBER.fullmatch(text):
            number = Decimal(text)
            power = next(power for power, first in _UNIX_UNITS if number >= first)
            seconds, nanos = divmod(int(number.scaleb(9 - power)), 10**9)
            return Timestamp(seconds=seconds, nanos=nanos)
    except ValueError:
        pass
    raise MalformedLine(
        f"{text[:40]!r} is no time: write 2026-01-31T12:00:00Z, or Unix seconds or milliseconds"
    )


ReadCells = Callable[[str], list[str]]
"""Function from the text of a row to its cells. Raises MalformedLine."""


def tsv_cells(text: str) -> list[str]:
    r"""Return the cells between tabs.

    ``\t``, ``\n``, ``\r`` and ``\\`` stand for the characters that a cell cannot hold. The cell
    ``\N`` is empty: so PostgreSQL writes a missing value.
    """
    cells = text.split("\t")
    if "\\" not in text:
        return cells
    return ["" if cell == _NULL else _ESCAPE.sub(_unescape, cell) for cell in cells]


def _unescape(match: re.Match[str]) -> str:
    character = _ESCAPES.get(match[1])
    if character is None:
        raise MalformedLine(f"{match[0]} is no escape of tsv: write a backslash as \\\\")
    return character


def csv_cells(text: str) -> list[str]:
    """Return the cells between commas, of which some may stand in quotes."""
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        if "new-line" in str(error):
            raise MalformedLine("has a carriage return outside of quotes") from None
        raise MalformedLine(f"is not csv: {error}") from None


READERS: Mapping[str, ReadCells] = MappingProxyType({"tsv": tsv_cells, "csv": csv_cells})


def _identity(cells: Sequence[str]) -> bytes:
    """Return the row as a line of tsv, so that another spelling of its cells is the same row."""
    line = "\t".join(cells)
    if _TO_ESCAPE.search(line) or line.count("\t") >= len(cells):
        line = "\t".join(cell.translate(_ESCAPED) for cell in cells)
    return line.encode()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
