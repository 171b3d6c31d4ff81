"""Formats with columns."""

from collections.abc import Sequence

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity, Ref
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf.timestamp_pb2 import Timestamp

from feedsvc.cli.importing.formats import ActivityRow, MalformedLine
from feedsvc.cli.importing.tables import (
    Table,
    TableOptions,
    WrongColumns,
    csv_cells,
    parse_time,
    tsv_cells,
)

FIELDS_ARE = (
    "The fields are follower, followee, actor, verb, object, object_entity, object_type, "
    "object_name, object_url, target, target_entity, target_type, target_name, target_url, to, "
    "mentions, audience, content, time, external_id, extra and extra.NAME"
)


def options(*maps: str, sets: Sequence[str] = (), ignored: Sequence[str] = ()) -> TableOptions:
    return TableOptions.parse(None, maps, sets, ignored, "|")


def table(names: str, given: TableOptions | None = None) -> Table:
    return Table(tsv_cells, names.split(), given or options())


def built(format_of_rows: Table, *cells: str) -> Activity:
    row = format_of_rows("\t".join(cells).encode())
    assert isinstance(row, ActivityRow)
    activity = row.build()
    assert activity.actor == row.actor
    return activity


def test_a_header_of_fields_needs_no_options() -> None:
    assert table("followee follower")(b"alice\tbob") == FollowRequest(
        follower="bob", followee="alice"
    )


def test_all_fields_of_an_activity_can_be_given() -> None:
    names = (
        "actor verb object object_type object_name object_url target_entity target_name to "
        "mentions audience content time external_id extra.score extra.lang"
    )
    activity = built(
        table(names),
        *("alice", "star", "issue:1", "Issue", "One", "https://x", "repo:a", "A", "repo:a|topic:b"),
        *("carol|dave", "to_only", "Neat!\\nReally.", "2026-01-31T12:00:00.5+01:00", "e1", "3", ""),
    )
    expected = Activity(
        actor="alice",
        verb="star",
        object=Ref(id="issue:1", type="Issue", name="One", url="https://x"),
        target=Ref(entity="repo:a", name="A"),
        to=["repo:a", "topic:b"],
        mentions=["carol", "dave"],
        audience=AUDIENCE_TO_ONLY,
        content="Neat!\nReally.",
        publish_time=Timestamp(seconds=1_769_857_200, nanos=500_000_000),
        external_id="e1",
    )
    expected.extra.update({"score": "3"})
    assert activity == expected


def test_extra_is_a_json_object() -> None:
    activity = built(table("actor verb extra"), "alice", "star", '{"a": [1, null]}')
    assert dict(activity.extra) == {"a": [1, None]}


def test_a_column_may_give_several_fields_and_a_constant_the_others() -> None:
    given = options("actor=user,object=repo", "to=repo", sets=["verb=star"], ignored=["id"])
    assert built(table("id user repo", given), "7", "alice", "repo:x") == Activity(
        actor="alice", verb="star", object=Ref(id="repo:x"), to=["repo:x"]
    )


def test_an_empty_cell_is_no_value() -> None:
    assert built(table("actor verb object time to"), "alice", "star", "", "", "\\N") == Activity(
        actor="alice", verb="star"
    )


@pytest.mark.parametrize("line", [b"", b"\n", b"  \r\n"])
def test_an_empty_line_has_no_row(line: bytes) -> None:
    assert table("actor verb")(line) is None


@pytest.mark.parametrize(
    ("names", "given", "rule"),
    [
        ("a b", options(), ("no column gives a field: the columns are a, b. Map them "
         "(--map FIELD=COLUMN), or, if the file has no header line, name its columns "
         f"(--columns follower,followee). {FIELDS_ARE}")),
        ("actor verb score", options(), ("no field takes the column score. Map a column "
         "(--map FIELD=score) or leave it out (--ignore score; --ignore '*' for all). "
         f"{FIELDS_ARE}")),
        ("actor verb a b", options(), ("no field takes the columns a, b. Map a column "
         f"(--map FIELD=a) or leave it out (--ignore a; --ignore '*' for all). {FIELDS_ARE}")),
        ("actor user verb", options("actor=user"), ("no field takes the column actor. Map a column "
         "(--map FIELD=actor) or leave it out (--ignore actor; --ignore '*' for all). "
         f"{FIELDS_ARE}")),
        ("actor actor verb", options(), "2 columns have the name actor"),
        ("actor object", options(), ("no column gives the field verb, which every activity needs: "
         "name the column with --map verb=COLUMN, or one value for all rows with "
         "--set verb=VALUE. The columns are actor, object")),
        ("followee", options(), ("no column gives the field follower, which every follow needs: "
         "name the column with --map follower=COLUMN, or one value for all rows with "
         "--set follower=VALUE. The columns are followee")),
        ("follower followee verb", options(), ("a file has follows or activities, not both: "
         "follower, followee and verb do not belong together")),
        ("actor verb", options(sets=["verb=star"]), ("both --set and the column verb give the "
         "field verb: leave --set out, or the column with --ignore verb")),
        ("actor verb object object_entity", options(), ("a row has object or object_entity, not "
         "both")),
        ("actor verb extra extra.a", options(), ("a row has extra or fields of extra, such as "
         "extra.score, not both")),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(names: str, given: TableOptions, rule: str) -> None:
    with pytest.raises(WrongColumns) as caught:
        table(names, given)
    assert str(caught.value) == rule


def test_all_other_columns_can_be_left_out_at_once() -> None:
    given = options(ignored=["*"])
    assert built(table("id actor verb score", given), "7", "alice", "star", "3") == Activity(
        actor="alice", verb="star"
    )


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"alice\tstar", "has 2 columns instead of 6"),
        (b"alice", "has 1 column instead of 6"),
        (b"\tstar\t\t\t\t", "column user: is empty, but the row needs its actor"),
        (b"alice\t\t\t\t\t", "column verb: is empty, but the row needs its verb"),
        (b"alice\tst\xffar\t\t\t\t", "is not UTF-8: byte 0xff at position 9"),
        (b"alice\tst\0ar\t\t\t\t", "has a NUL byte at position 9"),
        (b"alice\tstar\tC:\\dir\t\t\t", "\\d is no escape of tsv: write a backslash as \\\\"),
        (b"alice\tstar\t\tsoon\t\t", ("column at: 'soon' is no time: write 2026-01-31T12:00:00Z, "
         "or Unix seconds or milliseconds")),
        (b"alice\tstar\t\t\teverybody\t", "column audience: must be followers or to_only"),
        (b"alice\tstar\t\t\t\t[1]", "column extra: must be a JSON object"),
        (b"alice\tstar\t\t\t\t{", ("column extra: is not JSON: Expecting property name enclosed in "
         "double quotes at position 2")),
    ],
)  # fmt: skip
def test_a_malformed_row_is_refused_by_column_and_rule(line: bytes, rule: str) -> None:
    rows = table("user verb object at audience extra", options("actor=user", "time=at"))
    with pytest.raises(MalformedLine) as caught:
        built(rows, line.decode("latin-1")) if line.isascii() else rows(line)
    assert str(caught.value) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('a,"b"c', "is not csv: ',' expected after '\"'"),
        ("a\rb,c", "has a carriage return outside of quotes"),
    ],
)
def test_malformed_csv_is_refused(text: str, rule: str) -> None:
    with pytest.raises(MalformedLine) as caught:
        csv_cells(text)
    assert str(caught.value) == rule


def test_csv_and_tsv_write_the_same_cells_in_their_own_ways() -> None:
    cells = ["a", 'b\t"\n', "c\\", ""]
    assert csv_cells('a,"b\t""\n",c\\,') == cells
    assert tsv_cells('a\tb\\t"\\n\tc\\\\\t\\N') == cells


def test_the_identity_of_a_row_is_its_line_of_tsv() -> None:
    line = b'alice\tpost\ta\\tb\\n\\\\ "c"'
    names = ["actor", "verb", "content"]
    of_tsv = Table(tsv_cells, names, options())(line)
    of_csv = Table(csv_cells, names, options())(b'alice,post,"a\tb\n\\ ""c"""')
    assert isinstance(of_tsv, ActivityRow)
    assert isinstance(of_csv, ActivityRow)
    assert of_tsv.identity == of_csv.identity == line


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800, 0),
        ("2026-01-31 12:00:00", 1_769_860_800, 0),
        ("2026-01-31 12:00:00 UTC", 1_769_860_800, 0),
        ("2026-01-31 12:00:00.25+00", 1_769_860_800, 250_000_000),
        ("2026-01-31T17:30:00+0530", 1_769_860_800, 0),
        ("2026-01-31T12:00:00.123456789Z", 1_769_860_800, 123_456_789),
        ("1769860800", 1_769_860_800, 0),
        ("1769860800.5", 1_769_860_800, 500_000_000),
        ("1769860800123", 1_769_860_800, 123_000_000),
        ("1769860800123456", 1_769_860_800, 123_456_000),
        ("1769860800123456789", 1_769_860_800, 123_456_789),
        ("17", 17, 0),
    ],
)
def test_a_time_may_have_any_common_form(text: str, seconds: int, nanos: int) -> None:
    assert parse_time(text) == Timestamp(seconds=seconds, nanos=nanos)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-01-31", "2026-13-31T12:00:00Z", "1.7e9", "-5", "٣", "1" * 30]
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(MalformedLine, match=r"is no time: write 2026-01-31T12:00:00Z, or Unix"):
        parse_time(text)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("activity.publish_time", "column at"),
        ("activity.to[3]", "column repo"),
        ("activity.object.id", "column repo"),
        ("activity.object.subject", "column repo"),
        ("activity.verb", "--set verb"),
        ("activity", "activity"),
        ("activity.content", "activity.content"),
    ],
)
def test_a_field_of_the_contract_is_named_by_its_column(path: str, source: str) -> None:
    given = options("actor=user", "object=repo", "to=repo", "time=at", sets=["verb=star"])
    assert table("user repo at", given).source_of(path) == source
