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
    "line",
    [
        b"alice star linux",
        b"null",
        b"[]",
        b"{}",
        b'{"activity": null}',
        b'{"activity": {}}',
        b'{"activity": {"actor": 5}}',
        b'{"activity": {"actor": "a"}, "follow": {"follower": "a", "followee": "b"}}',
        b'{"follow": {"follower": "a"}}',
        b'{"follow": {"follower": "a", "followee": 5}}',
        b'{"follow": {"follower": "a", "followee": "b", "since": "ever"}}',
        b'{"follow": {"follower": "\\ud800", "followee": "b"}}',
        b'{"follow": {"follower": "\xff", "followee": "b"}}',
        b"[" * 100_000,
    ],
)
def test_canonical_refuses_other_lines(line: bytes) -> None:
    with pytest.raises(MalformedLine):
        canonical(line)


@pytest.mark.parametrize(
    "fields",
    [
        {"verb": 5},
        {"colour": "red"},
        {"publishTime": "yesterday"},
        {"to": "everybody"},
        {"audience": "AUDIENCE_ALIENS"},
        {"content": "\ud800"},
        {"extra": [1]},
    ],
)
def test_a_malformed_activity_is_refused_when_it_is_built(fields: dict[str, object]) -> None:
    row = canonical(json.dumps({"activity": {"actor": "a", "verb": "b"} | fields}).encode())
    assert isinstance(row, ActivityRow)
    with pytest.raises(MalformedLine):
        row.build()


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
    with pytest.raises(MalformedLine):
        higgs(line)


@pytest.mark.parametrize("line", [b"1 2 3 XX", b"1 2 now RT", b"1 2 99999999999999999999 RT"])
def test_higgs_refuses_other_kinds_and_times(line: bytes) -> None:
    row = higgs(line)
    assert isinstance(row, ActivityRow)
    with pytest.raises(MalformedLine):
        row.build()


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
