"""Formats of imported lines."""

import json

import pytest
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from feedsvc.cli.importing.formats import (
    ActivityRow,
    Format,
    MalformedLine,
    canonical,
    gharchive,
    higgs,
)


def built(line_format: Format, line: bytes) -> Activity:
    row = line_format(line)
    assert isinstance(row, ActivityRow)
    activity = row.build()
    assert activity.actor == row.actor
    return activity


def test_canonical_reads_an_activity_in_proto_json() -> None:
    activity = Activity(
        actor="alice",
        verb="star",
        object=Ref(id="repo:linux"),
        to=["repo:linux"],
        external_id="7",
        publish_time=Timestamp(seconds=1_700_000_000, nanos=5_000_000),
    )
    activity.extra.update({"deep": [1, {"er": None}]})
    line = json.dumps({"activity": MessageToDict(activity)}).encode()
    assert built(canonical, line) == activity


def test_canonical_reads_a_follow() -> None:
    row = canonical(b'{"follow": {"follower": "alice", "followee": "repo:linux"}}')
    assert row == FollowRequest(follower="alice", followee="repo:linux")


@pytest.mark.parametrize("line_format", [canonical, higgs, gharchive])
@pytest.mark.parametrize("line", [b"", b"  \t"])
def test_an_empty_line_has_no_row(line_format: Format, line: bytes) -> None:
    assert line_format(line) is None


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"alice star linux", "is not JSON: Expecting value at position 1"),
        (b'{"activity": "x', "is not JSON: Unterminated string starting at position 14"),
        (b"null", 'must be {"activity": ...} or {"follow": ...}'),
        (b"[]", 'must be {"activity": ...} or {"follow": ...}'),
        (b"{}", 'must be {"activity": ...} or {"follow": ...}'),
        (b'{"activity": null}', "an activity must be an object with an actor"),
        (b'{"activity": {}}', "an activity must be an object with an actor"),
        (b'{"activity": {"actor": 5}}', "an activity must be an object with an actor"),
        (b'{"activity": {"actor": "a"}, "follow": {"follower": "a", "followee": "b"}}',
         'must be {"activity": ...} or {"follow": ...}'),
        (b'{"follow": {"follower": "a"}}',
         "a follow must be an object with a follower and a followee only"),
        (b'{"follow": {"follower": "a", "followee": 5}}',
         "a follow must be an object with a follower and a followee only"),
        (b'{"follow": {"follower": "a", "followee": "b", "since": "ever"}}',
         "a follow must be an object with a follower and a followee only"),
        (b'{"follow": {"follower": "\\ud800", "followee": "b"}}',
         "has \\ud800, half of a surrogate pair, which is no character"),
        (b'{"activity": {"actor": "a", "\\udfff": 1}}',
         "has \\udfff, half of a surrogate pair, which is no character"),
        (b'{"follow": {"follower": "\xff", "followee": "b"}}',
         "is not UTF-8: byte 0xff at position 26"),
        (b'{"follow": {"follower": "\xed\xa0\x80", "followee": "b"}}',
         "is not UTF-8: byte 0xed at position 26"),
        (b'{"follow":\0', "has a NUL byte at position 11"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "has a number with too many digits"),
        (b"[" * 100_000, "is nested too deeply"),
    ],
)  # fmt: skip
def test_canonical_refuses_other_lines(line: bytes, rule: str) -> None:
    with pytest.raises(MalformedLine) as caught:
        canonical(line)
    assert str(caught.value) == rule


def test_canonical_takes_a_whole_surrogate_pair() -> None:
    row = canonical(b'{"follow": {"follower": "\\ud83d\\ude00", "followee": "b"}}')
    assert row == FollowRequest(follower="\N{GRINNING FACE}", followee="b")


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"verb": 5}, "activity.verb: must be a string"),
        ({"to": [5]}, "activity.to: must be a string"),
        ({"to": [None]}, "activity.to[0]: must not contain null"),
        ({"to": "everybody"}, "activity.to: must be a list"),
        ({"colour": "red"}, "activity: has no field colour"),
        ({"object": {"colour": "red"}}, "activity.object: has no field colour"),
        ({"object": 5}, "activity.object: must be a JSON object"),
        ({"object": {"id": "a", "entity": "b"}},
         "activity.object: must have only one of id, entity and activityId"),
        ({"attachments": [{"x": 1}]}, "activity.attachments[0]: has no field x"),
        ({"publishTime": "yesterday"},
         "activity.publishTime: must be a time such as 2026-01-31T12:00:00Z"),
        ({"publishTime": "2026-13-01T00:00:00Z"},
         "activity.publishTime: must be a time such as 2026-01-31T12:00:00Z"),
        ({"publishTime": 5}, "activity.publishTime: must be a time such as 2026-01-31T12:00:00Z"),
        ({"audience": "AUDIENCE_ALIENS"},
         "activity.audience: must be AUDIENCE_FOLLOWERS or AUDIENCE_TO_ONLY"),
        ({"extra": [1]}, "activity.extra: must be a JSON object"),
        ({"extra": {"a": 10**400}}, "activity: has a number that is too large"),
        ({"extra": nested(300)}, "activity: is nested too deeply"),
    ],
)  # fmt: skip
def test_a_malformed_activity_is_refused_when_it_is_built(
    fields: dict[str, object], rule: str
) -> None:
    row = canonical(json.dumps({"activity": {"actor": "a", "verb": "b"} | fields}).encode())
    assert isinstance(row, ActivityRow)
    with pytest.raises(MalformedLine) as caught:
        row.build()
    assert str(caught.value) == rule


@pytest.mark.parametrize(("kind", "verb"), [(b"RT", "share"), (b"MT", "mention"), (b"RE", "reply")])
@pytest.mark.parametrize("separator", [b"\t", b" "])
def test_higgs_reads_an_activity(kind: bytes, verb: str, separator: bytes) -> None:
    line = separator.join([b"223789", b"213163", b"1341100972", kind])
    assert built(higgs, line) == Activity(
        actor="223789",
        verb=verb,
        object=Ref(id="213163"),
        publish_time=Timestamp(seconds=1_341_100_972),
    )


@pytest.mark.parametrize("line", [b"1\t4\ts", b"1\t4\t1341100972", b"1 4"])
def test_higgs_reads_a_follow(line: bytes) -> None:
    assert higgs(line) == FollowRequest(follower="1", followee="4")


def test_higgs_skips_a_comment() -> None:
    assert higgs(b"# Nodes: 82168 Edges: 948464") is None


@pytest.mark.parametrize("line", [b"1", b"1 2 3 RT 5"])
def test_higgs_refuses_other_numbers_of_columns(line: bytes) -> None:
    with pytest.raises(MalformedLine) as caught:
        higgs(line)
    assert str(caught.value) == "must have 4 columns (an activity), or 2 or 3 (a follow)"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"1 2 3 XX", "the third column must be Unix seconds, the fourth RT, MT or RE"),
        (b"1 2 now RT", "the third column must be Unix seconds, the fourth RT, MT or RE"),
        (b"1 2 99999999999999999999 RT", "the third column must be Unix seconds"),
        (b"1 2 " + b"9" * 5_000 + b" RT", "the third column must be Unix seconds"),
        (b"1 \xff 3 RT", "is not UTF-8: byte 0xff at position 1"),
    ],
)
def test_higgs_refuses_other_kinds_and_times(line: bytes, rule: str) -> None:
    row = higgs(line)
    assert isinstance(row, ActivityRow)
    with pytest.raises(MalformedLine) as caught:
        row.build()
    assert str(caught.value) == rule


EVENT = {
    "id": "2489368389",
    "actor": "tategakibunko",
    "actor_id": 1405427,
    "verb": "Watch",
    "action": "started",
    "object": "repo:inf0rmer/blanket",
    "target": "repo:inf0rmer/blanket",
    "time": "2015-01-01T00:00:24Z",
}


def test_gharchive_reads_an_event() -> None:
    expected = Activity(
        external_id="2489368389",
        actor="tategakibunko",
        verb="Watch",
        object=Ref(id="repo:inf0rmer/blanket"),
        target=Ref(id="repo:inf0rmer/blanket", type="Repository", name="inf0rmer/blanket"),
        to=["repo:inf0rmer/blanket"],
        publish_time=Timestamp(seconds=1_420_070_424),
    )
    expected.extra.update({"actor_id": 1405427, "action": "started"})
    assert built(gharchive, json.dumps(EVENT).encode()) == expected


@pytest.mark.parametrize("field", ["id", "actor", "verb", "object", "target", "time"])
def test_gharchive_refuses_an_event_without_a_field(field: str) -> None:
    with pytest.raises(MalformedLine):
        gharchive(json.dumps(EVENT | {field: None}).encode())


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"time": "soon"}, "time: must be a time such as 2026-01-31T12:00:00Z"),
        ({"count": 10**400}, "the event: has a number that is too large"),
    ],
)
def test_gharchive_refuses_an_event_that_is_no_activity(
    fields: dict[str, object], rule: str
) -> None:
    row = gharchive(json.dumps(EVENT | fields).encode())
    assert isinstance(row, ActivityRow)
    with pytest.raises(MalformedLine) as caught:
        row.build()
    assert str(caught.value) == rule
