"""Requests that break a rule of the contract, or keep within its limits by a byte.

The limits stand here as the contract states them: they are not taken from the code that is tested.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from activityfeed.v1 import follow_service_pb2 as follows
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity, Attachment, Ref
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.bad_input.requests import ID, LETTER, RPCS, assign, good_publish

REQUIRED = "is required"
CONTROL = "must not contain control characters"
NOT_AN_ID = "must be an activity id: 19 decimal digits"
NOT_A_LETTER = "must be a dead letter's id: <shard>-<milliseconds>-<number>"
NO_ENTRY = "must have at least one entry"
REPEATED = "must not repeat an earlier entry"
SAME_ENTITY = "must be another entity than follower"
NEGATIVE = "must not be negative"
NOT_A_TIME = "must be a valid timestamp"
TOO_EARLY = "must not be before 1985-02-09T22:45:58.204Z"
ENTITY, EXTERNAL_ID, REQUEST_ID = 256, 256, 128


def rule_too_long(limit: int) -> str:
    return f"must have at most {limit} bytes of UTF-8"


def rule_too_many(limit: int) -> str:
    return f"must have at most {limit} entries"


@dataclass(frozen=True)
class Case:
    """A request, and the rules that it breaks, by field. A good request breaks none."""

    rpc: str
    name: str
    changes: dict[str, Any]
    rules: dict[str, str]

    def request(self) -> Any:
        request = RPCS[self.rpc].good()
        for path, value in self.changes.items():
            assign(request, path, value)
        return request

    def __str__(self) -> str:
        return f"{self.rpc}-{self.name}"


#: Fields that hold an entity id: (RPC, path, True if the field is required).
ENTITIES = [
    ("PublishActivity", "activity.actor", True),
    ("PublishActivity", "activity.to[0]", True),
    ("PublishActivity", "activity.to[31]", True),
    ("PublishActivity", "activity.mentions[0]", True),
    ("PublishActivity", "activity.mentions[31]", True),
    ("PublishActivity", "activity.object.entity", True),
    ("PublishActivity", "activity.target.entity", True),
    ("GetActivity", "viewer", False),
    ("GetDelivery", "viewer", False),
    ("BatchGetActivities", "viewer", False),
    ("DeleteActivity", "actor", True),
    ("ListActivities", "entity", True),
    ("ListActivities", "viewer", False),
    ("Follow", "follower", True),
    ("Follow", "followee", True),
    ("Unfollow", "follower", True),
    ("Unfollow", "followee", True),
    ("ListFollowers", "entity", True),
    ("ListFollowers", "viewer", False),
    ("ListFollowing", "entity", True),
    ("ListFollowing", "viewer", False),
    ("BatchGetRelationships", "entity", True),
    ("BatchGetRelationships", "others[0]", True),
    ("BatchGetRelationships", "others[99]", True),
    ("BatchGetRelationships", "viewer", False),
    ("GetFollowCounts", "entity", True),
    ("GetFollowCounts", "viewer", False),
    ("GetFeed", "user", True),
    ("GetFeed", "viewer", False),
    ("SubscribeFeed", "user", True),
    ("SubscribeFeed", "viewer", False),
    ("SubscribeActivities", "entity", True),
    ("SubscribeActivities", "viewer", False),
    ("GetFeedEvents", "user", True),
    ("GetFeedEvents", "viewer", False),
    ("VerifyFeed", "user", True),
    ("RebuildFeed", "user", True),
    ("GetFeedStats", "user", True),
]
CONTROLS = ["\0", "\n", "a\tb", "\x1b[31m", "a\x1f", "\x7f", "\x80", "a\x85b", "\x9f"]
UNUSUAL = [" ", "\u00a0", "\u00ad", "\u2028", "\u202eevil", "\ufeff", "\U0001f600", "../..", "%s"]
#: Other texts: (RPC, path, bytes, True if it is required, True if control characters are allowed).
TEXTS = [
    ("PublishActivity", "activity.verb", 64, True, False),
    ("PublishActivity", "activity.external_id", EXTERNAL_ID, False, False),
    ("PublishActivity", "activity.object.id", 1_024, True, False),
    ("PublishActivity", "activity.target.id", 1_024, True, False),
    ("PublishActivity", "activity.attachments[0].type", 64, False, True),
    ("PublishActivity", "activity.attachments[15].url", 2_048, True, True),
    ("PublishActivity", "activity.attachments[3].media_type", 255, False, True),
    ("PublishActivity", "activity.attachments[3].name", 512, False, True),
    ("PublishActivity", "activity.content", 16_384, False, True),
    ("PublishActivity", "request_id", REQUEST_ID, False, True),
    ("DeleteActivity", "request_id", REQUEST_ID, False, True),
    ("Follow", "request_id", REQUEST_ID, False, True),
    ("Unfollow", "request_id", REQUEST_ID, False, True),
]
#: Texts that stand beside the id of a reference, and their limits in bytes.
REFS = [("type", 64), ("name", 512), ("url", 2_048)]
BAD_IDS = [
    "",
    "1",
    ID[:-1],
    ID + "0",
    "-" + ID[:-1],
    "+" + ID[:-1],
    " " + ID[:-1],
    ID[:-1] + "\n",
    ID[:-1] + "\0",
    ID[:-1] + "x",
    "0x" + ID[:17],
    "1_" + ID[:17],
    "1e" + "1" * 17,
    "9" * 19,
    str(2**63),
    "\u0661" * 19,
    "\uff11" * 19,
    "{0}a:" + ID,
    "feedsvc:meta",
    "*",
    "x" * 100_000,
]
BAD_LETTERS = [
    "",
    "0",
    "0-1",
    "0-1-",
    "0--1",
    "-1-1",
    "0-1-2-3",
    "00-1-2",
    "0-01-2",
    "0-1-02",
    "1000-1-2",
    "0-1-" + "9" * 20,
    " 0-1-2",
    "0-1-2\n",
    "0-1-2\0",
    "0-1-x",
    "0-1.5-2",
    "0-(1-2",
    "0-1--2",
    "+0-1-2",
    "0-\u0661-2",
    "0-\uff11-2",
    "*",
    "x" * 100_000,
]
EARLIEST = Timestamp(seconds=476_837_158, nanos=204_000_000)
BAD_TIMES = [
    (Timestamp(seconds=476_837_158, nanos=203_999_999), TOO_EARLY),
    (Timestamp(seconds=476_837_157, nanos=999_999_999), TOO_EARLY),
    (Timestamp(), TOO_EARLY),
    (Timestamp(seconds=-1), TOO_EARLY),
    (Timestamp(seconds=-62_135_596_800), TOO_EARLY),
    (Timestamp(seconds=-(2**63)), TOO_EARLY),
    (Timestamp(seconds=253_402_300_800), NOT_A_TIME),
    (Timestamp(seconds=2**63 - 1), NOT_A_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=-1), NOT_A_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=1_000_000_000), NOT_A_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=-(2**31)), NOT_A_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=2**31 - 1), NOT_A_TIME),
]
GOOD_TIMES = [
    EARLIEST,
    Timestamp(seconds=476_837_158, nanos=204_000_001),
    Timestamp(seconds=253_402_300_799, nanos=999_999_999),
    Timestamp(seconds=1_700_000_000, nanos=999_999_999),
]


def nested(levels: int, *, lists: bool = False) -> Struct:
    """Return a Struct of so many levels; the levels below the first are lists or structs."""
    inner: Any = [] if lists else {}
    for _ in range(levels - 2):
        inner = [inner] if lists else {"in": inner}
    struct = Struct()
    struct.update({"in": inner} if levels > 1 else {"flat": 1})
    return struct


def struct_of_bytes(size: int) -> Struct:
    """Return a Struct of `size` bytes."""
    struct = Struct()
    struct.update({"text": "x" * (size - 30)})
    struct.update({"text": "x" * (size - 30 + size - struct.ByteSize())})
    assert struct.ByteSize() == size
    return struct


def activity_of_bytes(size: int) -> Activity:
    """Return an activity of `size` bytes; each field is within its own limit."""
    activity = Activity(
        actor="alice", verb="post", content="x" * 16_384, extra=struct_of_bytes(16_000)
    )
    activity.object.id = "x"
    activity.object.id = "x" * (size - activity.ByteSize())
    activity.object.id = "x" * (len(activity.object.id) + size - activity.ByteSize())
    assert activity.ByteSize() == size
    return activity


def text_cases(rpc: str, path: str, limit: int, *, required: bool, control: bool) -> Iterator[Case]:
    if required:
        yield Case(rpc, f"{path}-empty", {path: ""}, {path: REQUIRED})
    longer = ("x" * (limit + 1), "\u00e9" * (limit // 2) + "x" * (1 + limit % 2), "x" * 1_000_000)
    for number, value in enumerate(longer):
        yield Case(rpc, f"{path}-long-{number}", {path: value}, {path: rule_too_long(limit)})
    for number, value in enumerate(CONTROLS):
        rules = {} if control else {path: CONTROL}
        yield Case(rpc, f"{path}-control-{number}", {path: value}, rules)
    longest = ("x" * limit, "\u00e9" * (limit // 2), "\U0001f600" * (limit // 4))
    for number, value in enumerate(longest):
        yield Case(rpc, f"{path}-longest-{number}", {path: value}, {})


def field_cases() -> Iterator[Case]:
    for rpc, path, required in ENTITIES:
        yield from text_cases(rpc, path, ENTITY, required=required, control=False)
        for number, value in enumerate(UNUSUAL):
            yield Case(rpc, f"{path}-strange-{number}", {path: value}, {})
    for rpc, path, limit, required, control in TEXTS:
        yield from text_cases(rpc, path, limit, required=required, control=control)
    for rpc in ("GetActivity", "GetDelivery", "DeleteActivity"):
        for number, value in enumerate(BAD_IDS):
            yield Case(rpc, f"id-{number}", {"id": value}, {"id": NOT_AN_ID})
    for rpc in ("ListActivities", "ListFollowers", "ListFollowing", "GetFeed", "ListDeadLetters"):
        for size in (-1, -2, -100, -(2**31)):
            yield Case(rpc, f"page_size{size}", {"page_size": size}, {"page_size": NEGATIVE})
        for size in (0, 1, 100, 101, 1_000, 1_001, 2**31 - 1):
            yield Case(rpc, f"page_size+{size}", {"page_size": size}, {})
    for wait in (False, True):
        yield Case("PublishActivity", f"wait-{wait}", {"wait_for_delivery": wait}, {})
    yield Case("Follow", "self", {"follower": "alice"}, {"followee": SAME_ENTITY})
    yield Case("Unfollow", "self", {"follower": "alice"}, {})


def batch_cases() -> Iterator[Case]:
    for rpc, path, limit, entry in (
        ("BatchPublishActivities", "requests", 500, good_publish()),
        ("BatchFollow", "requests", 1_000, follows.FollowRequest(follower="bob", followee="alice")),
        ("BatchGetActivities", "ids", 100, ID),
        ("BatchGetRelationships", "others", 100, "bob"),
        ("ReplayDeadLetters", "ids", 1_000, LETTER),
        ("DiscardDeadLetters", "ids", 1_000, LETTER),
    ):
        yield Case(rpc, f"no-{path}", {path: []}, {path: NO_ENTRY})
        yield Case(rpc, f"most-{path}", {path: [entry] * limit}, {})
        for count in (limit + 1, 2 * limit):
            yield Case(
                rpc, f"{count}-{path}", {path: [entry] * count}, {path: rule_too_many(limit)}
            )


def activity_case(name: str, path: str, value: Any, rules: dict[str, str] | None = None) -> Case:
    return Case("PublishActivity", name, {f"activity.{path}": value}, rules or {})


def ref_cases() -> Iterator[Case]:
    for ref in ("object", "target"):
        for name, limit in REFS:
            path = f"activity.{ref}.{name}"
            for case in text_cases("PublishActivity", path, limit, required=False, control=True):
                changes = {f"activity.{ref}.id": "x", **case.changes}
                yield Case(case.rpc, case.name, changes, case.rules)
        rules = {f"activity.{ref}.subject": "is required: one of id, entity and activity_id"}
        yield activity_case(f"empty-{ref}", ref, Ref(), rules)


def list_cases() -> Iterator[Case]:
    names = [f"entity {number}" for number in range(1_000)]
    for path in ("to", "mentions"):
        yield activity_case(f"most-{path}", path, names[:32])
        for count in (33, 1_000):
            rules = {f"activity.{path}": rule_too_many(32)}
            yield activity_case(f"{count}-{path}", path, names[:count], rules)
        rules = {f"activity.{path}[2]": REPEATED}
        yield activity_case(f"twice-{path}", path, ["a", "b", "a"], rules)
    attachments = [Attachment(url="https://example.org")] * 100
    yield activity_case("most-attachments", "attachments", attachments[:16])
    for count in (17, 100):
        rules = {"activity.attachments": rule_too_many(16)}
        yield activity_case(f"{count}-attachments", "attachments", attachments[:count], rules)
    rules = {"activity.attachments[1].url": REQUIRED}
    yield activity_case("no-url", "attachments", [attachments[0], Attachment()], rules)


def extra_cases() -> Iterator[Case]:
    for size in (16_385, 1_000_000):
        rules = {"activity.extra": "must have at most 16384 bytes serialised"}
        yield activity_case(f"extra-of-{size}", "extra", struct_of_bytes(size), rules)
    yield activity_case("extra-of-16384", "extra", struct_of_bytes(16_384))
    for lists in (False, True):
        for levels in (1, 2, 15, 16, 17, 18, 25):
            rules = {"activity.extra": "must be at most 16 levels deep"} if levels > 16 else {}
            extra = nested(levels, lists=lists)
            yield activity_case(f"extra-{levels}-deep-{lists}", "extra", extra, rules)


def activity_cases() -> Iterator[Case]:
    for audience in (3, 99, -1, 2**31 - 1, -(2**31)):
        rules = {"activity.audience": "must be a value of Audience"}
        yield activity_case(f"audience{audience}", "audience", audience, rules)
    for audience in (0, 1):
        yield activity_case(f"audience{audience}", "audience", audience)
    rules = {"activity.to": "is required with AUDIENCE_TO_ONLY"}
    yield activity_case("to-nobody", "audience", AUDIENCE_TO_ONLY, rules)
    for number, (time, rule) in enumerate(BAD_TIMES):
        rules = {"activity.publish_time": rule}
        yield activity_case(f"time-{number}", "publish_time", time, rules)
    for number, time in enumerate(GOOD_TIMES):
        yield activity_case(f"good-time-{number}", "publish_time", time)
    for number, value in enumerate(("", "1", ID, "x" * 10_000, "\0")):
        yield activity_case(f"ignored-id-{number}", "id", value)
    for size in (32_768, 32_769):
        rules = {"activity": "must have at most 32768 bytes serialised"} if size > 32_768 else {}
        yield Case("PublishActivity", f"of-{size}", {"activity": activity_of_bytes(size)}, rules)


CASES = [
    *field_cases(),
    *batch_cases(),
    *ref_cases(),
    *list_cases(),
    *extra_cases(),
    *activity_cases(),
]
BAD = [case for case in CASES if case.rules]
GOOD = [case for case in CASES if not case.rules]
