"""What the contract does not allow is refused by name, leaves no trace, and harms nothing.

The limits stand here as the contract states them: they are not taken from the code that is tested.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from activityfeed.admin.v1 import admin_service_pb2 as admin
from activityfeed.v1 import activity_service_pb2 as activities
from activityfeed.v1 import feed_service_pb2 as feeds
from activityfeed.v1 import follow_service_pb2 as follows
from activityfeed.v1 import subscription_service_pb2 as subscriptions
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity, Attachment, Ref
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from feedsvc.tokens import Tokens
from tests.letters import plant
from tests.serving import Refusal, Service, ids_of, refused
from tests.stores import Stores

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUIRED = "is required"
CONTROL = "must not contain control characters"
NOT_AN_ID = "must be an activity id: 19 decimal digits"
NOT_A_LETTER = "must be a dead letter's id: <shard>-<milliseconds>-<number>"
NO_ENTRY = "must have at least one entry"
REPEATED = "must not repeat an earlier entry"
SELF = "must be another entity than follower"
NEGATIVE = "must not be negative"
BAD_TIME = "must be a valid timestamp"
TOO_EARLY = "must not be before 1985-02-09T22:45:58.204Z"
MALFORMED = "must be a well-formed message of its type, with strings in UTF-8"
ENTITY, EXTERNAL_ID, REQUEST_ID = 256, 256, 128
REQUEST_BYTES, BATCH_BYTES = 1_048_576, 3_000_000
#: What no answer may hold: what only the server's authors should see.
INTERNALS = re.compile(
    r"Traceback|\.py\b|\bredis|\blua\b|EVALSHA|WRONGTYPE|Exception|0x[0-9a-f]{6}"
)
ID = "1898765432109876543"
LETTER = "0-1700000000000-0"


def too_long(limit: int) -> str:
    return f"must have at most {limit} bytes of UTF-8"


def too_many(limit: int) -> str:
    return f"must have at most {limit} entries"


@dataclass(frozen=True)
class Rpc:
    """A method, and a request that it takes."""

    service: str
    method: str
    good: Callable[[], Message]


def good_publish() -> activities.PublishActivityRequest:
    return activities.PublishActivityRequest(activity=Activity(actor="alice", verb="post"))


RPCS = {
    rpc.method: rpc
    for rpc in (
        Rpc("activities", "PublishActivity", good_publish),
        Rpc(
            "activities",
            "BatchPublishActivities",
            lambda: activities.BatchPublishActivitiesRequest(requests=[good_publish()]),
        ),
        Rpc("activities", "GetActivity", lambda: activities.GetActivityRequest(id=ID)),
        Rpc("activities", "GetDelivery", lambda: activities.GetDeliveryRequest(id=ID)),
        Rpc(
            "activities",
            "BatchGetActivities",
            lambda: activities.BatchGetActivitiesRequest(ids=[ID]),
        ),
        Rpc(
            "activities",
            "DeleteActivity",
            lambda: activities.DeleteActivityRequest(id=ID, actor="alice"),
        ),
        Rpc(
            "activities", "ListActivities", lambda: activities.ListActivitiesRequest(entity="alice")
        ),
        Rpc("follows", "Follow", lambda: follows.FollowRequest(follower="bob", followee="alice")),
        Rpc(
            "follows", "Unfollow", lambda: follows.UnfollowRequest(follower="bob", followee="alice")
        ),
        Rpc(
            "follows",
            "BatchFollow",
            lambda: follows.BatchFollowRequest(
                requests=[follows.FollowRequest(follower="bob", followee="alice")]
            ),
        ),
        Rpc("follows", "ListFollowers", lambda: follows.ListFollowersRequest(entity="alice")),
        Rpc("follows", "ListFollowing", lambda: follows.ListFollowingRequest(entity="alice")),
        Rpc(
            "follows",
            "BatchGetRelationships",
            lambda: follows.BatchGetRelationshipsRequest(entity="alice", others=["bob"]),
        ),
        Rpc("follows", "GetFollowCounts", lambda: follows.GetFollowCountsRequest(entity="alice")),
        Rpc("feeds", "GetFeed", lambda: feeds.GetFeedRequest(user="bob")),
        Rpc(
            "subscriptions", "SubscribeFeed", lambda: subscriptions.SubscribeFeedRequest(user="bob")
        ),
        Rpc(
            "subscriptions",
            "SubscribeActivities",
            lambda: subscriptions.SubscribeActivitiesRequest(entity="repo:x"),
        ),
        Rpc("subscriptions", "SubscribeAll", subscriptions.SubscribeAllRequest),
        Rpc(
            "subscriptions", "GetFeedEvents", lambda: subscriptions.GetFeedEventsRequest(user="bob")
        ),
        Rpc("admin", "VerifyFeed", lambda: admin.VerifyFeedRequest(user="bob")),
        Rpc("admin", "RebuildFeed", lambda: admin.RebuildFeedRequest(user="bob")),
        Rpc("admin", "GetFeedStats", lambda: admin.GetFeedStatsRequest(user="bob")),
        Rpc("admin", "GetFanoutStatus", admin.GetFanoutStatusRequest),
        Rpc("admin", "ListDeadLetters", admin.ListDeadLettersRequest),
        Rpc(
            "admin",
            "ReplayDeadLetters",
            lambda: admin.ReplayDeadLettersRequest(ids=[LETTER]),
        ),
        Rpc(
            "admin",
            "DiscardDeadLetters",
            lambda: admin.DiscardDeadLettersRequest(ids=[LETTER]),
        ),
    )
}


def assign(message: Any, path: str, value: Any) -> None:
    """Sets a field by its path (`activity.to[3]`), with whatever has to stand before it."""
    *parents, last = path.split(".")
    for step in parents:
        name, _, number = step.partition("[")
        message = getattr(message, name)
        if number:
            while len(message) <= int(number[:-1]):
                message.add(url="https://example.org")
            message = message[int(number[:-1])]
    name, _, number = last.partition("[")
    if not number:
        if isinstance(value, Message):
            getattr(message, name).CopyFrom(value)
        elif isinstance(value, list):
            del getattr(message, name)[:]
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
        return
    field = getattr(message, name)
    while len(field) <= int(number[:-1]):
        field.append(f"entry {len(field)}")
    field[int(number[:-1])] = value


@dataclass(frozen=True)
class Case:
    """A request, and the rules that it breaks by field; none: it is good."""

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


#: Fields that hold an entity id: (RPC, path, whether it is required).
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
STRANGE = [" ", "\u00a0", "\u00ad", "\u2028", "\u202eevil", "\ufeff", "\U0001f600", "../..", "%s"]

#: Other texts: (RPC, path, bytes, whether it is required, whether it may hold control characters).
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
#: These stand beside an id.
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

FIRST = Timestamp(seconds=476_837_158, nanos=204_000_000)
BAD_TIMES = [
    (Timestamp(seconds=476_837_158, nanos=203_999_999), TOO_EARLY),
    (Timestamp(seconds=476_837_157, nanos=999_999_999), TOO_EARLY),
    (Timestamp(), TOO_EARLY),
    (Timestamp(seconds=-1), TOO_EARLY),
    (Timestamp(seconds=-62_135_596_800), TOO_EARLY),
    (Timestamp(seconds=-(2**63)), TOO_EARLY),
    (Timestamp(seconds=253_402_300_800), BAD_TIME),
    (Timestamp(seconds=2**63 - 1), BAD_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=-1), BAD_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=1_000_000_000), BAD_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=-(2**31)), BAD_TIME),
    (Timestamp(seconds=1_700_000_000, nanos=2**31 - 1), BAD_TIME),
]
GOOD_TIMES = [
    FIRST,
    Timestamp(seconds=476_837_158, nanos=204_000_001),
    Timestamp(seconds=253_402_300_799, nanos=999_999_999),
    Timestamp(seconds=1_700_000_000, nanos=999_999_999),
]


def nested(levels: int, *, lists: bool = False) -> Struct:
    """A Struct as many levels deep; the levels below the first are lists or structs."""
    inner: Any = [] if lists else {}
    for _ in range(levels - 2):
        inner = [inner] if lists else {"in": inner}
    struct = Struct()
    struct.update({"in": inner} if levels > 1 else {"flat": 1})
    return struct


def sized(size: int) -> Struct:
    """A Struct of as many bytes."""
    struct = Struct()
    struct.update({"text": "x" * (size - 30)})
    struct.update({"text": "x" * (size - 30 + size - struct.ByteSize())})
    assert struct.ByteSize() == size
    return struct


def heavy(size: int) -> Activity:
    """An activity of as many bytes, each field of which is within its limit."""
    activity = Activity(actor="alice", verb="post", content="x" * 16_384, extra=sized(16_000))
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
        yield Case(rpc, f"{path}-long-{number}", {path: value}, {path: too_long(limit)})
    for number, value in enumerate(CONTROLS):
        rules = {} if control else {path: CONTROL}
        yield Case(rpc, f"{path}-control-{number}", {path: value}, rules)
    longest = ("x" * limit, "\u00e9" * (limit // 2), "\U0001f600" * (limit // 4))
    for number, value in enumerate(longest):
        yield Case(rpc, f"{path}-longest-{number}", {path: value}, {})


def field_cases() -> Iterator[Case]:
    for rpc, path, required in ENTITIES:
        yield from text_cases(rpc, path, ENTITY, required=required, control=False)
        for number, value in enumerate(STRANGE):
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
    yield Case("Follow", "self", {"follower": "alice"}, {"followee": SELF})
    yield Case("Unfollow", "self", {"follower": "alice"}, {})


def batch_cases() -> Iterator[Case]:
    for rpc, path, most, entry in (
        ("BatchPublishActivities", "requests", 500, good_publish()),
        ("BatchFollow", "requests", 1_000, follows.FollowRequest(follower="bob", followee="alice")),
        ("BatchGetActivities", "ids", 100, ID),
        ("BatchGetRelationships", "others", 100, "bob"),
        ("ReplayDeadLetters", "ids", 1_000, LETTER),
        ("DiscardDeadLetters", "ids", 1_000, LETTER),
    ):
        yield Case(rpc, f"no-{path}", {path: []}, {path: NO_ENTRY})
        yield Case(rpc, f"most-{path}", {path: [entry] * most}, {})
        for count in (most + 1, 2 * most):
            yield Case(rpc, f"{count}-{path}", {path: [entry] * count}, {path: too_many(most)})


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
            rules = {f"activity.{path}": too_many(32)}
            yield activity_case(f"{count}-{path}", path, names[:count], rules)
        rules = {f"activity.{path}[2]": REPEATED}
        yield activity_case(f"twice-{path}", path, ["a", "b", "a"], rules)
    attachments = [Attachment(url="https://example.org")] * 100
    yield activity_case("most-attachments", "attachments", attachments[:16])
    for count in (17, 100):
        rules = {"activity.attachments": too_many(16)}
        yield activity_case(f"{count}-attachments", "attachments", attachments[:count], rules)
    rules = {"activity.attachments[1].url": REQUIRED}
    yield activity_case("no-url", "attachments", [attachments[0], Attachment()], rules)


def extra_cases() -> Iterator[Case]:
    for size in (16_385, 1_000_000):
        rules = {"activity.extra": "must have at most 16384 bytes serialised"}
        yield activity_case(f"extra-of-{size}", "extra", sized(size), rules)
    yield activity_case("extra-of-16384", "extra", sized(16_384))
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
        yield Case("PublishActivity", f"of-{size}", {"activity": heavy(size)}, rules)


#: What may be asked without saying anything.
NOTHING_REQUIRED = {"GetFanoutStatus", "ListDeadLetters", "SubscribeAll"}

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


@pytest.fixture(scope="module")
def url(stores: Stores) -> str:
    return stores.empty("valkey").url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(url: str) -> AsyncIterator[Service]:
    """One server for the whole module: all of this together leaves it unharmed."""
    service = await Service.start(url, checkpoint_seconds=300)
    await service.follow("bob", "alice")
    await service.publish("alice", external_id="e", to=["repo:x"])
    await service.post("alice")
    await service.warm("bob")
    yield service
    await service.stop()


async def send(service: Service, rpc: str, request: Any) -> Any:
    call = getattr(getattr(service, RPCS[rpc].service), rpc)(request)
    if not rpc.startswith("Subscribe"):
        return await call
    try:
        return await call.read()
    finally:
        call.cancel()


async def check_refused(service: Service, rpc: str, request: Any) -> Refusal:
    """Refused clearly, and without a trace."""
    before = await service.dump()
    refusal = await refused(send(service, rpc, request))
    assert refusal.info.domain == "feedsvc"
    assert not INTERNALS.search(refusal.message)
    assert len(refusal.message) < 1_000
    assert await service.dump() == before
    await check_unharmed(service)
    return refusal


async def check_unharmed(service: Service) -> None:
    stub: Any = HealthStub(service.channel)
    health = await stub.Check(HealthCheckRequest())
    assert health.status == HealthCheckResponse.SERVING
    assert len(ids_of(await service.page("bob", size=1))) == 1


@pytest.mark.parametrize("case", BAD, ids=str)
async def test_bad_field_is_named_with_its_rule(service: Service, case: Case) -> None:
    refusal = await check_refused(service, case.rpc, case.request())
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.rules == case.rules


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc not in NOTHING_REQUIRED])
async def test_empty_request_is_told_all_that_it_lacks(service: Service, rpc: str) -> None:
    required: dict[str, set[str]] = {
        "PublishActivity": {"activity"},
        "BatchPublishActivities": {"requests"},
        "GetActivity": {"id"},
        "GetDelivery": {"id"},
        "BatchGetActivities": {"ids"},
        "DeleteActivity": {"id", "actor"},
        "Follow": {"follower", "followee"},
        "Unfollow": {"follower", "followee"},
        "BatchFollow": {"requests"},
        "BatchGetRelationships": {"entity", "others"},
        "ListActivities": {"entity"},
        "ListFollowers": {"entity"},
        "ListFollowing": {"entity"},
        "GetFollowCounts": {"entity"},
        "SubscribeActivities": {"entity"},
        "ReplayDeadLetters": {"ids"},
        "DiscardDeadLetters": {"ids"},
    }
    empty = type(RPCS[rpc].good())()
    refusal = await check_refused(service, rpc, empty)
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.rules) == required.get(rpc, {"user"})


async def test_every_bad_field_is_named_at_once(service: Service) -> None:
    changes = {
        "activity.actor": "",
        "activity.verb": "x" * 65,
        "activity.to[0]": "a\0",
        "activity.to[1]": "b",
        "activity.object": Ref(),
        "activity.audience": 7,
        "activity.publish_time": Timestamp(),
        "request_id": "x" * 129,
    }
    case = Case("PublishActivity", "", changes, {})
    refusal = await check_refused(service, case.rpc, case.request())
    assert refusal.rules == {
        "activity.actor": REQUIRED,
        "activity.verb": too_long(64),
        "activity.to[0]": CONTROL,
        "activity.object.subject": "is required: one of id, entity and activity_id",
        "activity.audience": "must be a value of Audience",
        "activity.publish_time": TOO_EARLY,
        "request_id": too_long(128),
    }


# Batches: each entry is judged by itself, as its RPC would.


async def test_bad_entries_of_a_batch_publish_write_nothing(service: Service) -> None:
    bad = [case for case in BAD if case.rpc == "PublishActivity"]
    for first in range(0, len(bad), 100):
        some = [case for case in bad[first : first + 100] if case.request().ByteSize() < 40_000]
        before = await service.dump()
        answer = await service.activities.BatchPublishActivities(
            activities.BatchPublishActivitiesRequest(requests=[case.request() for case in some])
        )
        refusals = [Refusal.of(result.error) for result in answer.results]
        assert [refusal.rules for refusal in refusals] == [case.rules for case in some]
        assert {refusal.code for refusal in refusals} == {grpc.StatusCode.INVALID_ARGUMENT}
        assert await service.dump() == before


async def test_bad_entries_of_a_batch_follow_write_nothing(service: Service) -> None:
    bad = [case for case in BAD if case.rpc == "Follow" and case.request().ByteSize() < 40_000]
    before = await service.dump()
    answer = await service.follows.BatchFollow(
        follows.BatchFollowRequest(requests=[case.request() for case in bad])
    )
    assert [Refusal.of(one.error).rules for one in answer.results] == [case.rules for case in bad]
    assert await service.dump() == before


async def test_bad_entries_of_a_batch_get_are_refused_each(service: Service) -> None:
    there = ids_of(await service.page("bob"))[0]
    wanted = [one for bad in BAD_IDS for one in (bad, there)]
    answer = await service.activities.BatchGetActivities(
        activities.BatchGetActivitiesRequest(ids=wanted)
    )
    assert [one.activity.activity.id for one in answer.results[1::2]] == [there] * len(BAD_IDS)
    for one in answer.results[0::2]:
        refusal = Refusal.of(one.error)
        assert (refusal.reason, refusal.rules) == ("INVALID_FIELD", {"id": NOT_AN_ID})


@pytest.mark.parametrize("rpc", ["Replay", "Discard"])
async def test_bad_entries_of_letters_are_refused_each(service: Service, rpc: str) -> None:
    wanted = [one for bad in BAD_LETTERS for one in (bad, LETTER)]
    before = await service.dump()
    request = getattr(admin, f"{rpc}DeadLettersRequest")(ids=wanted)
    answer = await getattr(service.admin, f"{rpc}DeadLetters")(request)
    refusals = [Refusal.of(one.status) for one in answer.results]
    for refusal in refusals[0::2]:
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert (refusal.reason, refusal.rules) == ("INVALID_FIELD", {"id": NOT_A_LETTER})
    assert {one.reason for one in refusals[1::2]} == {"DEAD_LETTER_NOT_FOUND"}
    assert await service.dump() == before
    await check_unharmed(service)


@pytest.mark.parametrize("absent", ["0" * 19, ID, str(2**63 - 1), ID[:-3] + "000"])
async def test_id_of_nothing_is_not_found(service: Service, absent: str) -> None:
    for rpc in ("GetActivity", "GetDelivery", "DeleteActivity"):
        request = RPCS[rpc].good()
        assign(request, "id", absent)
        refusal = await check_refused(service, rpc, request)
        assert refusal.code == grpc.StatusCode.NOT_FOUND
        assert refusal.reason == "ACTIVITY_NOT_FOUND"


# Tokens.


async def page_tokens(service: Service, user: str, viewer: str) -> dict[str, tuple[str, Any]]:
    """A token of each list there is, with a request that it belongs to."""
    authors = [f"{user} {number}" for number in range(3)]
    for author in authors:
        await service.follow(user, author)
        await service.follow(author, user)
        await service.posts(author, 2, to=[user])
    await service.posts(user, 3)
    requests: dict[str, tuple[str, Any]] = {
        "feed": ("GetFeed", feeds.GetFeedRequest(user=user, viewer=viewer)),
        "outbox": (
            "ListActivities",
            activities.ListActivitiesRequest(entity=user, viewer=viewer),
        ),
        "own": (
            "ListActivities",
            activities.ListActivitiesRequest(entity=user, viewer=viewer, own_only=True),
        ),
        "followers": ("ListFollowers", follows.ListFollowersRequest(entity=user, viewer=viewer)),
        "following": ("ListFollowing", follows.ListFollowingRequest(entity=user, viewer=viewer)),
    }
    for rpc, request in requests.values():
        request.page_size = 1
        answer = await send(service, rpc, request)
        request.page_token = getattr(answer, "page", answer).next_page_token
        assert request.page_token
        await send(service, rpc, request)
    return requests


async def test_page_token_of_another_list_is_refused(service: Service) -> None:
    """Every token in every request that is not its own."""
    requests = {
        f"{user}/{viewer}/{name}": request
        for user in ("u", "u2")
        for viewer in ("", "u", "v")
        for name, request in (await page_tokens(service, user, viewer)).items()
    }
    assert len(requests) == 30
    await service.warm("u", "u2")
    before = await service.dump()
    for own, (rpc, request) in requests.items():
        for other, (_, stolen) in requests.items():
            tried = type(request)()
            tried.CopyFrom(request)
            tried.page_token = stolen.page_token
            if own == other:
                await send(service, rpc, tried)
                continue
            refusal = await refused(send(service, rpc, tried))
            assert refusal.reason == "PAGE_TOKEN_INVALID", (own, other)
            assert set(refusal.rules) == {"page_token"}
    assert await service.dump() == before
    await check_unharmed(service)


def damaged(token: str) -> Iterator[str]:
    """Every cut, every changed character, and other spellings of the same bytes."""
    for place in range(1, len(token)):
        yield token[:place]
        yield token[place:]
    for place, character in enumerate(token):
        for other in "A_-z9+/=\n\0\u00e9":
            if other != character:
                yield token[:place] + other + token[place + 1 :]
        yield token[:place] + " " + token[place:]
    yield from (token + "=", token + "==", token + "A", token + "\n", " " + token, token * 2)
    yield token.swapcase()
    yield token[::-1]
    yield from ("\0", "=", "====", "0", "A" * 20, "-1", "null", ID, "x" * 512, "x" * 1_000_000)


async def dead_letters(service: Service) -> tuple[str, Any]:
    """A token of the list of dead letters, with its request."""
    await plant(service, 2)
    request = admin.ListDeadLettersRequest(page_size=1)
    request.page_token = (await service.admin.ListDeadLetters(request)).next_page_token
    assert request.page_token
    return "ListDeadLetters", request


async def test_token_of_the_dead_letters_is_of_no_other_list(service: Service) -> None:
    rpc, letters = await dead_letters(service)
    for other, request in (await page_tokens(service, "l", "")).values():
        request.page_token, letters.page_token = letters.page_token, request.page_token
        for each, tried in ((rpc, letters), (other, request)):
            assert (await refused(send(service, each, tried))).reason == "PAGE_TOKEN_INVALID"
        request.page_token, letters.page_token = letters.page_token, request.page_token
        await send(service, rpc, letters)


@pytest.mark.parametrize("name", ["feed", "outbox", "own", "followers", "following", "letters"])
async def test_damaged_page_token_is_refused(service: Service, name: str) -> None:
    requests = await page_tokens(service, "d", "v")
    rpc, request = await dead_letters(service) if name == "letters" else requests[name]
    await service.warm("d")
    before = await service.dump()

    async def check(token: str) -> None:
        tried = type(request)()
        tried.CopyFrom(request)
        tried.page_token = token
        refusal = await refused(send(service, rpc, tried))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "PAGE_TOKEN_INVALID", token[:100]
        assert set(refusal.rules) == {"page_token"}
        assert not INTERNALS.search(refusal.message)

    await asyncio.gather(*(check(token) for token in damaged(request.page_token)))
    assert await service.dump() == before
    await check_unharmed(service)


async def test_page_token_of_another_deployment_is_refused(service: Service) -> None:
    tokens = Tokens(b"another store's secret")
    bound = ("feed", "bob", "", "flat")
    cursor = Tokens(service.server.engine.store.secret).read_page(
        (await service.page("bob", size=1)).next_page_token, *bound
    )
    request = feeds.GetFeedRequest(user="bob", page_token=tokens.seal_page(cursor, *bound))
    assert (await check_refused(service, "GetFeed", request)).reason == "PAGE_TOKEN_INVALID"


def subscription(user: str, viewer: str, token: str) -> Any:
    return subscriptions.SubscribeFeedRequest(user=user, viewer=viewer, resume_token=token)


async def test_resume_token_of_another_stream_is_refused(service: Service) -> None:
    tokens = {}
    for user in ("r", "r2"):
        for viewer in ("", "r", "v"):
            page = await service.page(user, viewer=viewer, resumable=True)
            tokens[user, viewer] = page.resume_token
            tokens[user, f"{viewer} stream"] = (await service.subscribe(user, viewer=viewer)).token
    stranger = (await service.page("bob", size=1)).next_page_token
    before = await service.dump()
    for user in ("r", "r2"):
        for viewer in ("", "r", "v"):
            for (whose, seen), token in tokens.items():
                if (whose, seen.removesuffix(" stream").strip()) == (user, viewer):
                    continue
                refusal = await refused(
                    send(service, "SubscribeFeed", subscription(user, viewer, token))
                )
                assert refusal.reason == "RESUME_TOKEN_INVALID"
                assert set(refusal.rules) == {"resume_token"}
    refusal = await refused(send(service, "SubscribeFeed", subscription("bob", "", stranger)))
    assert refusal.reason == "RESUME_TOKEN_INVALID"
    # Nor is it a page token.
    for token in tokens.values():
        request = feeds.GetFeedRequest(user="r", page_token=token)
        assert (await refused(send(service, "GetFeed", request))).reason == "PAGE_TOKEN_INVALID"
    assert await service.dump() == before


async def test_damaged_resume_token_is_refused(service: Service) -> None:
    token = (await service.page("bob", resumable=True)).resume_token
    before = await service.dump()

    async def check(bad: str) -> None:
        refusal = await refused(send(service, "SubscribeFeed", subscription("bob", "", bad)))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "RESUME_TOKEN_INVALID", bad[:100]
        assert set(refusal.rules) == {"resume_token"}

    await asyncio.gather(*(check(bad) for bad in damaged(token)))
    assert await service.dump() == before
    await check_unharmed(service)


# What no generated stub would send.

#: What is in a string field and not UTF-8: nonsense, a surrogate, an overlong NUL.
NOT_UTF8 = [b"\x02\xff\xfe", b"\x03\xed\xa0\x80", b"\x02\xc0\x80"]
#: The tag of each request's first string, or message, if that is not field 1.
STRINGS: dict[str, bytes | None] = {
    "ListDeadLetters": b"\x12",
    "GetFanoutStatus": None,
    # Their entries are refused one by one, see below.
    "BatchPublishActivities": None,
    "BatchFollow": None,
}
#: Field 1, and what follows it: a cut, unknown wire types, nonsense.
MALFORMED_BYTES = [
    b"\x0a\x50abc",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff",
    b"\x0f",
    b"\x00",
    b"{}",
    b"GET / HTTP/1.1\r\n\r\n",
]


async def send_raw(service: Service, method: str, data: bytes) -> Any:
    package = "activityfeed.admin.v1" if method.startswith("Admin") else "activityfeed.v1"
    path = f"/{package}.{method}"
    if "/Subscribe" in method:
        stream: Any = service.channel.unary_stream(path, bytes, bytes)(data)
        return await stream.read()
    return await service.channel.unary_unary(path, bytes, bytes)(data)


SERVICES = {
    "activities": "ActivityService",
    "follows": "FollowService",
    "feeds": "FeedService",
    "subscriptions": "SubscriptionService",
    "admin": "AdminService",
}


@pytest.mark.parametrize("rpc", RPCS)
async def test_malformed_message_is_refused(service: Service, rpc: str) -> None:
    method = f"{SERVICES[RPCS[rpc].service]}/{rpc}"
    before = await service.dump()
    tag = STRINGS.get(rpc, b"\x0a")
    not_utf8 = [] if tag is None else [tag + text for text in NOT_UTF8]
    for data in MALFORMED_BYTES + not_utf8:
        refusal = await refused(send_raw(service, method, data))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT, data
        assert refusal.reason == "INVALID_FIELD"
        assert refusal.rules == {"": MALFORMED}
        assert not INTERNALS.search(refusal.message)
    assert await service.dump() == before
    await check_unharmed(service)


@pytest.mark.parametrize("rpc", ["BatchPublishActivities", "BatchFollow"])
async def test_malformed_entry_of_a_batch_is_refused_alone(service: Service, rpc: str) -> None:
    method = f"{SERVICES[RPCS[rpc].service]}/{rpc}"
    good = RPCS[rpc].good().requests[0].SerializeToString()  # type: ignore[attr-defined]
    bad = [b"\x0a\x50abc", *(b"\x12" + text for text in NOT_UTF8)]
    raw = b"".join(b"\x0a" + varint(len(entry)) + entry for entry in (*bad, good))
    kind = getattr(activities if rpc.startswith("BatchP") else follows, f"{rpc}Response")
    *refusals, done = kind.FromString(await send_raw(service, method, raw)).results
    for result in refusals:
        refusal = Refusal.of(result.error)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        )
        assert refusal.rules == {"": MALFORMED}
    assert len(refusals) == len(bad)
    assert done.HasField("response")


async def test_number_that_json_cannot_write_is_refused(service: Service) -> None:
    """NaN and the infinities, wherever they stand; what only looks like them is taken."""
    for number in (math.nan, math.inf, -math.inf):
        extra = Struct(fields={"a": Value(number_value=1), "b": Value(number_value=number)})
        deep = Struct()
        deep["list"] = [1, {"deep": [0, 0]}]
        deep["list"][1]["deep"].values[1].number_value = number
        for value, path in ((extra, "b"), (deep, "list[1].deep[1]")):
            refusal = await refused(service.publish("alice", extra=value))
            assert refusal.rules == {
                f"activity.extra.{path}": "must be a finite number: JSON has no NaN and no Infinity"
            }
    largest = Struct()
    largest["numbers"] = [1.7976931348623157e308, -5e-324, 0.0, -0.0]
    largest["text"] = "\x11      \u07f0\x7f"
    published = await service.publish("alice", extra=largest)
    assert published.activity.extra == largest


async def test_request_of_a_size_that_no_request_has_is_refused(service: Service) -> None:
    """It is not even decoded."""
    unknown = b"\xfa\x7f" + varint(REQUEST_BYTES) + b"x" * REQUEST_BYTES
    refusal = await refused(send_raw(service, "FeedService/GetFeed", b"\x0a\x03bob" + unknown))
    assert refusal.rules == {"": f"must have at most {REQUEST_BYTES} bytes"}
    unknown = b"\xfa\x7f" + varint(BATCH_BYTES) + b"x" * BATCH_BYTES
    refusal = await refused(send_raw(service, "FollowService/BatchFollow", unknown))
    rule = f"must have at most {BATCH_BYTES} bytes serialised, together"
    assert refusal.rules == {"requests": rule}
    await check_unharmed(service)


async def test_endless_nesting_is_refused(service: Service) -> None:
    """Too deep to be decoded at all: a thousand levels of Struct."""
    value = b""
    for _ in range(1_000):  # Value.list_value = ListValue.values = Value ...
        value = b"\x0a" + varint(len(value)) + value
        value = b"\x32" + varint(len(value)) + value
    entry = b"\x0a\x01k\x12" + varint(len(value)) + value
    struct = b"\x0a" + varint(len(entry)) + entry
    extra = b"\x62" + varint(len(struct)) + struct
    request = b"\x0a" + varint(len(extra)) + extra
    refusal = await refused(send_raw(service, "ActivityService/PublishActivity", request))
    assert refusal.reason == "INVALID_FIELD"
    await check_unharmed(service)


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


async def test_message_that_is_too_large_is_refused(service: Service) -> None:
    before = await service.dump()
    request = good_publish()
    request.activity.content = "x" * (4 * 1024 * 1024 + 1)
    refusal = await refused_by_grpc(send(service, "PublishActivity", request))
    assert refusal == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await service.dump() == before
    await check_unharmed(service)


async def test_unknown_method_is_refused(service: Service) -> None:
    for method in ("FeedService/Nothing", "NothingService/GetFeed"):
        refusal = await refused_by_grpc(send_raw(service, method, b""))
        assert refusal == grpc.StatusCode.UNIMPLEMENTED
    await check_unharmed(service)


async def refused_by_grpc(call: Any) -> grpc.StatusCode:
    """The code of an error that no handler has seen, so that it has no details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


# At the limits: the last, because it writes much.


@pytest.mark.parametrize("case", GOOD, ids=str)
async def test_what_is_just_within_the_limits_is_taken(service: Service, case: Case) -> None:
    if case.rpc in {"GetActivity", "GetDelivery", "DeleteActivity"}:  # ID names no activity
        refusal = await refused(send(service, case.rpc, case.request()))
        assert refusal.reason == "ACTIVITY_NOT_FOUND"
    else:
        await send(service, case.rpc, case.request())
