"""Each error of the contract, provoked; and what may be sent again without harm."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    GetFanoutStatusRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, Activity, ViewedActivity
from activityfeed.v1.activity_service_pb2 import (
    BatchGetActivitiesRequest,
    BatchPublishActivitiesRequest,
    GetActivityRequest,
    GetDeliveryRequest,
    PublishActivityRequest,
)
from activityfeed.v1.error_reason_pb2 import ErrorReason
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from feedsvc.config import Config, Limits
from feedsvc.core import keys
from feedsvc.embedded import EmbeddedStore
from feedsvc.health_status import SERVICES
from feedsvc.server import PortBusy, Server
from tests.serving import Refusal, Serve, Service, at_ms, ids_of, refusal_of, refused, until

#: What goes to two followers is queued; two such may wait.
NARROW = Limits(inline_audience=1, push_chunk=1, max_jobs=4)
SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20, max_followees=3)

#: Those that say when to come again, and in how many milliseconds.
RETRY_MS = {"DRAINING": 200, "STORE_UNAVAILABLE": 200, "FANOUT_OVERLOADED": 1_000}
#: What each reason is said with.
CODES = {
    "NOT_THE_ACTOR": grpc.StatusCode.PERMISSION_DENIED,
    "ACTIVITY_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ACTIVITY_DELETED": grpc.StatusCode.FAILED_PRECONDITION,
    "EXTERNAL_ID_CONFLICT": grpc.StatusCode.ALREADY_EXISTS,
    "REQUEST_ID_REUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "BEFORE_RETENTION": grpc.StatusCode.FAILED_PRECONDITION,
    "EXTERNAL_ID_EXPIRED": grpc.StatusCode.FAILED_PRECONDITION,
    "TOO_MANY_FOLLOWEES": grpc.StatusCode.FAILED_PRECONDITION,
    "FANOUT_OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DEAD_LETTER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}


def check(refusal: Refusal, reason: str, **metadata: str) -> None:
    assert refusal.reason == reason
    assert refusal.code == CODES[reason]
    assert refusal.info.domain == "feedsvc"
    assert refusal.metadata == metadata
    assert refusal.rules == {}
    assert refusal.retry_ms == RETRY_MS.get(reason)
    assert f"ERROR_REASON_{reason}" in ErrorReason.keys()  # noqa: SIM118 (no mapping)


async def check_unchanged(service: Service, call: Any, reason: str, **metadata: str) -> None:
    before = await service.dump()
    check(await refused(call), reason, **metadata)
    assert await service.dump() == before


@pytest.mark.every_store
async def test_not_the_actor(service: Service) -> None:
    posted = await service.post("alice", to=["repo:x"])
    for other in ("bob", "repo:x", "Alice", "alice "):
        await check_unchanged(service, service.delete(posted, other), "NOT_THE_ACTOR")
    assert (await service.get(posted)).id == posted


@pytest.mark.every_store
async def test_activity_not_found(service: Service) -> None:
    posted = await service.post("alice")
    await service.delete(posted, "alice")
    for call in (
        service.get(posted),
        service.delete(posted, "alice"),
        service.activities.GetDelivery(GetDeliveryRequest(id=posted)),
        service.get("1898765432109876543"),
        service.delete("1898765432109876543", "alice"),
        service.activities.GetDelivery(GetDeliveryRequest(id="1898765432109876543")),
    ):
        await check_unchanged(service, call, "ACTIVITY_NOT_FOUND")


@pytest.mark.every_store
async def test_activity_deleted(service: Service) -> None:
    posted = await service.post("alice", external_id="e")
    await service.delete(posted, "alice")
    for fields in ({}, {"content": "other"}):
        call = service.publish("alice", external_id="e", **fields)
        await check_unchanged(service, call, "ACTIVITY_DELETED")


@pytest.mark.every_store
async def test_external_id_conflict_names_the_activity(service: Service) -> None:
    posted = await service.post("alice", external_id="e", content="one")
    for fields in ({"content": "two"}, {}, {"content": "one", "to": ["repo:x"]}):
        call = service.publish("alice", external_id="e", **fields)
        await check_unchanged(service, call, "EXTERNAL_ID_CONFLICT", activity_id=posted)


@pytest.mark.every_store
async def test_external_id_is_unique_per_actor_and_for_good(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.warm("bob")
    first = await service.publish("alice", external_id="e", content="x")
    assert not first.already_published
    again = await service.publish("alice", external_id="e", content="x")
    assert again.already_published
    assert again.activity == first.activity
    # With other request ids as well, and with the id that is ignored.
    third = await service.publish(
        "alice", external_id="e", content="x", request_id="r", id="1898765432109876543"
    )
    assert third.activity == first.activity
    other = await service.publish("carol", external_id="e", content="x")
    assert not other.already_published
    assert await service.feed("bob") == [first.activity.id]


@pytest.mark.every_store
async def test_request_id_reused(service: Service) -> None:
    posted = await service.post("alice", request_id="r")
    others = await service.posts("alice", 2)
    await service.follow("bob", "alice", request_id="r")
    await service.follow("bob", "carol")
    await service.unfollow("bob", "carol", request_id="r")
    await service.delete(others[0], "alice", request_id="r")
    for call in (
        service.publish("alice", "other", request_id="r"),
        service.publish("alice", request_id="r", to=["repo:x"]),
        service.publish("alice", request_id="r", external_id="e"),
        service.follow("bob", "carol", request_id="r"),
        service.unfollow("bob", "alice", request_id="r"),
        service.delete(others[1], "alice", request_id="r"),
    ):
        await check_unchanged(service, call, "REQUEST_ID_REUSED")
    assert await service.outbox("alice") == [others[1], posted]
    assert await service.following("bob") == ["alice"]


@pytest.mark.every_store
async def test_request_id_is_scoped_to_the_rpc_and_to_who_acts(service: Service) -> None:
    """And to nothing else: names that could be joined wrongly are others."""
    await service.follow("bob", "alice", request_id="r")
    await service.follow("carol", "bob", request_id="r")
    await service.unfollow("bob", "alice", request_id="r")
    assert await service.counts("bob") == (1, 0)
    ids = {
        await service.post(actor, request_id=request)
        for actor, request in (("a", "r"), ("b", "r"), ("a", "\0r"), ("ar", ""), ("a", "r\0"))
    }
    assert len(ids) == 5


@pytest.mark.every_store
async def test_before_retention(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    start = 1_700_000_000_000
    posted = [await service.post("alice", publish_time=at_ms(start + n)) for n in range(25)]
    early = at_ms(start + 4)  # trimmed: 0 to 4
    call = service.publish("alice", publish_time=early, request_id="r", external_id="e")
    await check_unchanged(service, call, "BEFORE_RETENTION")
    # Where the outbox is not concerned, it has no say.
    only = await service.post(
        "alice", publish_time=early, to=["repo:x"], audience="AUDIENCE_TO_ONLY"
    )
    assert await service.outbox("repo:x") == [only]
    assert await service.outbox("alice") == posted[:4:-1]
    within = await service.post("alice", publish_time=at_ms(start + 10))
    assert await service.outbox("alice") == sorted([*posted[6:], within], reverse=True)


@pytest.mark.every_store
async def test_too_many_followees(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    for name in ("a", "b", "c"):
        await service.follow("bob", name)
    # The word that there may be followers in bob's shard comes before the edge, and stays.
    await refused(service.follow("bob", "d"))
    call = service.follow("bob", "d", request_id="r")
    await check_unchanged(service, call, "TOO_MANY_FOLLOWEES", limit="3")
    assert (await service.follow("bob", "a")).already_following
    await service.unfollow("bob", "a")
    assert not (await service.follow("bob", "d", request_id="r")).already_following
    assert sorted(await service.following("bob")) == ["b", "c", "d"]
    assert await service.counts("d") == (1, 0)


def publish(actor: str, request_id: str, *, wait: bool = False) -> PublishActivityRequest:
    activity = Activity(actor=actor, verb="post", content=request_id)
    return PublishActivityRequest(activity=activity, request_id=request_id, wait_for_delivery=wait)


@pytest.mark.every_store
async def test_fanout_overloaded(serve: Serve) -> None:
    service = await serve(limits=NARROW, workers=0)
    # So many that some shard has several, of which one is reached inline.
    await service.follow_all([(f"f{number}", "alice") for number in range(60)])
    # Ids of requests are kept from the first one on: what is refused is not remembered.
    queued = [await service.publish("alice", request_id=name) for name in ("a", "b")]
    for wait in (False, True):
        call = service.activities.PublishActivity(publish("alice", "c", wait=wait))
        await check_unchanged(service, call, "FANOUT_OVERLOADED")
    batch = BatchPublishActivitiesRequest(requests=[publish("alice", "c")] * 3)
    answer = await service.activities.BatchPublishActivities(batch)
    for one in answer.results:
        check(Refusal.of(one.error), "FANOUT_OVERLOADED")
    # What is there already, and what needs no job, is not refused.
    assert (await service.publish("alice", request_id="a")).already_published
    assert not (await service.publish("lonely")).already_published
    assert await service.outbox("alice") == [one.activity.id for one in queued[::-1]]
    # Another server has workers: room is made, and what was refused is published.
    other = await serve(limits=NARROW, workers=2)

    async def published() -> bool:
        answer = await service.activities.BatchPublishActivities(batch)
        return all(one.HasField("response") for one in answer.results)

    await until(published)
    answer = await other.activities.BatchPublishActivities(batch)
    assert len({one.response.activity.id for one in answer.results}) == 1
    assert len(await service.outbox("alice")) == 3


@pytest.mark.every_store
async def test_dead_letter_not_found(service: Service) -> None:
    before = await service.dump()
    shards = service.server.config.limits.shards
    ids = [
        "0-1700000000000-0",
        f"{shards - 1}-1-1",
        f"{shards}-1-1",
        "999-" + "-".join(["9" * 19] * 2),
    ]
    answer = await service.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=ids))
    for one in answer.results:
        check(Refusal.of(one.status), "DEAD_LETTER_NOT_FOUND")
    assert len(answer.results) == len(ids)
    assert await service.dump() == before


# Defects, planted in what is stored: the caller learns nothing but that there is one.


async def plant_body(service: Service, posted: str) -> Any:
    await service.store.set(service.activity_key(posted), b"\0\0\xffsecret")
    return service.activities.GetActivity(GetActivityRequest(id=posted))


async def plant_feed(service: Service, posted: str) -> Any:
    await service.store.set(keys.feed(service.tag("alice"), "alice"), "secret")
    return service.feeds.GetFeed(GetFeedRequest(user="alice"))


async def plant_outbox(service: Service, posted: str) -> Any:
    await service.store.set(f"{service.tag('alice')}o:alice", "secret")
    return service.publish("alice")


@pytest.mark.every_store
@pytest.mark.parametrize("plant", [plant_body, plant_feed, plant_outbox])
async def test_internal(service: Service, plant: Any) -> None:
    posted = await service.post("alice")
    refusal = await refused(await plant(service, posted))
    check(refusal, "INTERNAL")
    assert refusal.message == "internal error"
    assert b"secret" not in refusal.status.SerializeToString()
    own = await service.post("bob")
    assert await service.feed("bob") == [own]


async def test_internal_of_a_stream(service: Service) -> None:
    await service.store.set(f"{service.tag('bob')}v", "secret")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.subscribe("bob")
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"


# The store goes away.


@pytest.fixture
async def own_store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """A store that the test may stop, and that keeps what it was told."""
    async with EmbeddedStore(tmp_path) as store:
        yield store


async def test_store_unavailable(own_store: EmbeddedStore) -> None:
    service = await Service.start(own_store.url)
    try:
        await service.follow("bob", "alice")
        first = await service.publish("alice", request_id="r")
        stream = await service.subscribe("bob")
        await own_store.stop()
        calls = (
            service.page("bob"),
            service.publish("alice", request_id="s"),
            service.get(first.activity.id),
            service.delete(first.activity.id, "alice"),
            service.follow("bob", "carol"),
            service.unfollow("bob", "alice"),
            service.counts("bob"),
            service.verify("bob"),
            service.stats("bob"),
            service.activities.GetDelivery(GetDeliveryRequest(id=first.activity.id)),
            service.admin.GetFanoutStatus(GetFanoutStatusRequest()),
            service.admin.ListDeadLetters(ListDeadLettersRequest()),
        )
        for refusal in await asyncio.gather(*map(refused, calls)):
            check(refusal, "STORE_UNAVAILABLE")
        replay = ReplayDeadLettersRequest(ids=["0-1-1"])
        (result,) = (await service.admin.ReplayDeadLetters(replay)).results
        check(Refusal.of(result.status), "STORE_UNAVAILABLE")
        await own_store.start()

        async def back() -> bool:
            try:
                await service.page("bob")
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

        await until(back)
        # Acknowledged and kept; what was refused may be sent again.
        assert await service.feed("bob") == [first.activity.id]
        second = await service.publish("alice", request_id="s")
        assert await service.feed("bob") == [second.activity.id, first.activity.id]
        token = stream.token
        resumed = await service.subscribe("bob", token)
        found = await resumed.until(("added", second.activity.id))
        assert found[-1] == ("added", second.activity.id)
    finally:
        await service.stop()


async def test_deadline_is_honoured(own_store: EmbeddedStore) -> None:
    """By the server too: what was begun when the caller gave up comes to its end, once."""
    service = await Service.start(own_store.url)
    try:
        await service.post("alice")
        os.kill(own_store.pid, signal.SIGSTOP)
        try:
            request = PublishActivityRequest(
                activity=Activity(actor="alice", verb="late"), request_id="r"
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.activities.PublishActivity(request, timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.feeds.GetFeed(GetFeedRequest(user="alice"), timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            os.kill(own_store.pid, signal.SIGCONT)

        async def published() -> bool:
            return len(await service.feed("alice")) == 2

        await until(published)
        again = await service.activities.PublishActivity(request)
        assert again.already_published
        assert (await service.feed("alice"))[0] == again.activity.id
        assert len(await service.feed("alice")) == 2
    finally:
        await service.stop()


# Sent again: the same answer, and no change, whatever was done in between.


@pytest.mark.every_store
async def test_retry_of_a_publish(service: Service) -> None:
    fields: dict[str, Any] = {
        "request_id": "r",
        "to": ["repo:x"],
        "publish_time": at_ms(1_700_000_000_123),
        "content": "x",
    }
    first = await service.publish("alice", **fields)
    assert (first.already_published, first.activity.audience) == (False, AUDIENCE_FOLLOWERS)
    before = await service.dump()
    again = await service.publish("alice", **fields)
    assert (again.already_published, again.activity) == (True, first.activity)
    assert await service.dump() == before
    await service.delete(first.activity.id, "alice")
    before = await service.dump()
    after = await service.publish("alice", **fields)
    first.activity.ClearField("create_time")  # it was sent with a publish_time, and is gone
    assert (after.already_published, after.activity) == (True, first.activity)
    assert await service.dump() == before
    assert await service.outbox("alice") == []


async def test_retry_of_a_publish_that_was_deleted_answers_as_the_first(service: Service) -> None:
    """Also in what the service itself has filled in."""
    first = await service.publish("alice", request_id="r")
    await service.delete(first.activity.id, "alice")
    await asyncio.sleep(0.002)  # another millisecond, or the test would mean nothing
    again = await service.publish("alice", request_id="r")
    assert again.activity == first.activity


@pytest.mark.every_store
async def test_retry_of_a_delete(service: Service) -> None:
    posted = await service.post("alice", external_id="e")
    await service.delete(posted, "alice", request_id="r")
    before = await service.dump()
    await service.delete(posted, "alice", request_id="r")
    assert await service.dump() == before
    assert (await refused(service.publish("alice", external_id="e"))).reason == "ACTIVITY_DELETED"
    await service.delete(posted, "alice", request_id="r")


@pytest.mark.every_store
async def test_retry_of_a_follow(service: Service) -> None:
    first = await service.follow("bob", "alice", request_id="r")
    second = await service.follow("bob", "alice", request_id="s")
    assert (first.already_following, second.already_following) == (False, True)
    assert first.edge == second.edge
    for _ in range(2):
        before = await service.dump()
        assert await service.follow("bob", "alice", request_id="r") == first
        assert await service.follow("bob", "alice", request_id="s") == second
        assert await service.dump() == before
        await service.unfollow("bob", "alice")
    assert await service.following("bob") == []
    third = await service.follow("bob", "alice", request_id="t")
    assert third.edge != first.edge
    assert await service.follow("bob", "alice", request_id="r") == first


@pytest.mark.every_store
async def test_retry_of_an_unfollow(service: Service) -> None:
    await service.follow("bob", "alice")
    first = await service.unfollow("bob", "alice", request_id="r")
    second = await service.unfollow("bob", "alice", request_id="s")
    assert (first.was_following, second.was_following) == (True, False)
    await service.follow("bob", "alice")
    before = await service.dump()
    assert await service.unfollow("bob", "alice", request_id="r") == first
    assert await service.unfollow("bob", "alice", request_id="s") == second
    assert await service.dump() == before
    assert await service.following("bob") == ["alice"]


async def test_many_retries_at_once(service: Service) -> None:
    answers = await asyncio.gather(
        *(service.publish("alice", request_id="r") for _ in range(50)),
        *(service.publish("alice", external_id="e") for _ in range(50)),
    )
    assert len({one.activity.id for one in answers[:50]}) == 1
    assert len({one.activity.id for one in answers[50:]}) == 1
    assert [one.already_published for one in answers].count(False) == 2
    assert len(await service.outbox("alice")) == 2


@pytest.mark.every_store
async def test_batch_publish_answers_each_in_order(service: Service) -> None:
    gone = await service.post("alice", external_id="gone")
    await service.delete(gone, "alice")
    taken = await service.post("alice", external_id="taken", content="one")
    await service.post("alice", request_id="used")

    def entry(request_id: str = "", **fields: Any) -> PublishActivityRequest:
        activity = Activity(**({"actor": "alice", "verb": "post"} | fields))
        return PublishActivityRequest(activity=activity, request_id=request_id)

    batch = BatchPublishActivitiesRequest(
        requests=[
            entry("one"),
            entry(actor=""),
            entry(external_id="gone"),
            entry("two", content="2"),
            entry(external_id="taken"),
            entry("used", content="other"),
            entry("one"),
            PublishActivityRequest(),
            entry("used"),
            entry(external_id="taken", content="one"),
        ]
    )
    first = await service.activities.BatchPublishActivities(batch)
    before = await service.dump()
    outcomes = [
        Refusal.of(one.error).reason if one.HasField("error") else one.response.already_published
        for one in first.results
    ]
    assert outcomes == [
        False,
        "INVALID_FIELD",
        "ACTIVITY_DELETED",
        False,
        "EXTERNAL_ID_CONFLICT",
        "REQUEST_ID_REUSED",
        True,
        "INVALID_FIELD",
        True,
        True,
    ]
    assert Refusal.of(first.results[1].error).rules == {"activity.actor": "is required"}
    assert Refusal.of(first.results[4].error).metadata == {"activity_id": taken}
    assert first.results[0].response.activity == first.results[6].response.activity
    again = await service.activities.BatchPublishActivities(batch)
    for one, other in zip(first.results, again.results, strict=True):
        assert one.error == other.error
        assert one.response.activity == other.response.activity
    assert await service.dump() == before


@pytest.mark.every_store
async def test_batch_follow_answers_each_in_order(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "z", request_id="used")
    pairs = [
        ("bob", "a", "one"),
        ("bob", "bob", ""),
        ("bob", "b", ""),
        ("bob", "b", ""),
        ("bob", "c", ""),
        ("carol", "a", "one"),
        ("bob", "y", "used"),
        ("", "", ""),
        ("bob", "a", "one"),
        ("bob", "z", ""),
    ]
    batch = BatchFollowRequest(
        requests=[FollowRequest(follower=a, followee=b, request_id=c) for a, b, c in pairs]
    )
    first = await service.follows.BatchFollow(batch)
    outcomes = [
        Refusal.of(one.error).reason if one.HasField("error") else one.response.already_following
        for one in first.results
    ]
    assert outcomes == [
        False,
        "INVALID_FIELD",
        False,
        True,
        "TOO_MANY_FOLLOWEES",
        False,
        "REQUEST_ID_REUSED",
        "INVALID_FIELD",
        False,  # a retry of the first entry
        True,
    ]
    edges = [(one.response.edge.follower, one.response.edge.followee) for one in first.results]
    assert edges[0] == edges[8] == ("bob", "a")
    assert Refusal.of(first.results[4].error).metadata == {"limit": "3"}
    assert sorted(await service.following("bob")) == ["a", "b", "z"]


@pytest.mark.every_store
async def test_batch_get_answers_each_in_order(service: Service) -> None:
    posted = await service.posts("alice", 3) + await service.posts("bob", 3)
    await service.delete(posted[1], "alice")
    wanted = [posted[4], posted[1], "nonsense", posted[0], posted[4], "1898765432109876543"]
    answer = await service.activities.BatchGetActivities(BatchGetActivitiesRequest(ids=wanted))
    found = [
        Refusal.of(one.error).reason if one.HasField("error") else one.activity.activity.id
        for one in answer.results
    ]
    assert found == [
        posted[4],
        "ACTIVITY_NOT_FOUND",
        "INVALID_FIELD",
        posted[0],
        posted[4],
        "ACTIVITY_NOT_FOUND",
    ]


@pytest.mark.every_store
async def test_activity_is_returned_as_it_was_given(service: Service) -> None:
    given = Activity(
        actor="alice",
        verb="post",
        external_id="e",
        to=["repo:x", "alice"],
        mentions=["bob"],
        content="two\nlines \0 \u2028",
        publish_time=at_ms(1_700_000_000_123),
        audience=AUDIENCE_FOLLOWERS,
    )
    given.object.id, given.object.name, given.target.id = "o", "an\nobject", "t"
    given.attachments.add(url="https://example.org", name="alternative\ntext")
    given.extra.update({"deep": [{"er": None}, 1.5, True], "": ""})
    given.publish_time.nanos += 456_789  # finer than a millisecond
    answer = await service.activities.PublishActivity(PublishActivityRequest(activity=given))
    published = answer.activity
    given.id, given.etag = published.id, "v1"
    given.create_time.CopyFrom(published.create_time)
    assert published == given
    assert await service.get(published.id) == given
    (item,) = (await service.page("alice")).items
    assert (item.activity.activity, list(item.via)) == (given, ["alice"])
    assert list((await service.outbox_page("repo:x")).activities) == [
        ViewedActivity(activity=given)
    ]


# The server itself.


async def test_health_of_every_service(serve: Serve) -> None:
    service = await serve(drain_seconds=5)
    stub: Any = HealthStub(service.channel)
    for name in ("", *SERVICES):
        answer = await stub.Check(HealthCheckRequest(service=name))
        assert answer.status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(HealthCheckRequest(service="nothing"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_health_says_that_the_server_stops(store_url: str) -> None:
    async with Server(Config(port=0, redis_url=store_url, drain_seconds=5)) as server:
        address = f"127.0.0.1:{server.port}"
        channel = grpc.aio.insecure_channel(address)
        stub: Any = HealthStub(channel)
        watch = stub.Watch(HealthCheckRequest())
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await channel.close()
        await stopping


async def test_reflection_lists_every_service(service: Service) -> None:
    channel: Any = service.channel
    stub: Any = ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
    answer = await call.read()
    found = {one.name for one in answer.list_services_response.service}
    assert found >= {*SERVICES, "grpc.health.v1.Health"}
    call = stub.ServerReflectionInfo(
        iter([ServerReflectionRequest(file_containing_symbol=name) for name in SERVICES])
    )
    for _ in SERVICES:
        assert (await call.read()).file_descriptor_response.file_descriptor_proto


async def test_second_server_on_the_same_port_fails(service: Service, store_url: str) -> None:
    port = service.server.port
    with pytest.raises(PortBusy, match=rf"127\.0\.0\.1:{port}.*--port"):
        await Server(Config(port=port, redis_url=store_url)).__aenter__()
    assert ids_of(await service.page("bob")) == []


async def test_server_stops_with_streams_open(serve: Serve) -> None:
    """Whoever reads a stream is told at once to go elsewhere with its token."""
    service = await serve(drain_seconds=10)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.server.port}") as channel:
        other = Service(service.server, channel, service.store)
        streams = [await other.subscribe("bob") for _ in range(20)]
        await service.stop()
        for stream in streams:
            message = await stream.message()
            assert message.resume_token
            assert message.HasField("heartbeat")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.message()
            check(refusal_of(caught.value), "DRAINING")
