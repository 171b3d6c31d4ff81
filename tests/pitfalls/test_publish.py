"""Mistakes that feed systems make when they publish and fan out."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections import Counter

import grpc
import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import DeliveryState, PublishActivityRequest
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_pb2 import PAGE_END_FEED_END, PAGE_END_RETENTION

from feedsvc.config import Limits
from feedsvc.core import ids, keys
from tests.serving import Serve, Service, at_ms, ids_of, refused, until

DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED
QUEUED = DeliveryState.DELIVERY_STATE_QUEUED

#: Caps that a test can fill.
SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20)

#: A server process of its own, to be killed.
PROCESS = """
import asyncio, sys
from feedsvc.config import Config
from feedsvc.server import Server

async def main():
    async with Server(Config(port=0, redis_url=sys.argv[1])) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def calls(service: Service, command: str) -> int:
    """How often the store has run a command since it began."""
    stats = await service.store.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.mark.every_store
async def test_following_twice_counts_two_followers(service: Service) -> None:
    await service.follow("bob", "alice")
    assert (await service.follow("bob", "alice")).already_following
    assert await service.counts("alice") == (1, 0)
    assert await service.counts("bob") == (0, 1)
    assert await service.followers("alice") == ["bob"]


async def test_following_many_times_at_once_counts_more_than_one_follower(service: Service) -> None:
    answers = await asyncio.gather(*(service.follow("bob", "alice") for _ in range(40)))
    assert [one.already_following for one in answers].count(False) == 1
    assert await service.counts("alice") == (1, 0)
    assert await service.followers("alice") == ["bob"]


@pytest.mark.every_store
async def test_unfollowing_a_stranger_counts_minus_one(service: Service) -> None:
    assert not (await service.unfollow("bob", "alice")).was_following
    assert await service.counts("alice") == (0, 0)
    assert await service.counts("bob") == (0, 0)
    await service.follow("bob", "alice")
    await asyncio.gather(*(service.unfollow("bob", "alice") for _ in range(20)))
    assert await service.counts("alice") == (0, 0)
    assert await service.counts("bob") == (0, 0)


async def test_list_is_capped_beside_a_counter_that_is_not(service: Service) -> None:
    names = [f"f{number}" for number in range(250)]
    await service.follow_all([(name, "alice") for name in names])
    assert await service.counts("alice") == (250, 0)
    assert sorted(await service.followers("alice")) == sorted(names)


@pytest.mark.every_store
async def test_author_without_followers_never_sees_its_own_activity(service: Service) -> None:
    cold = await service.post("alice")
    assert await service.feed("alice") == [cold]
    warm = await service.post("alice")
    assert await service.feed("alice") == [warm, cold]


async def test_author_with_very_many_followers_never_sees_its_own_activity(serve: Serve) -> None:
    service = await serve(limits=Limits(push_chunk=10))
    await service.follow_all([(f"f{number}", "alice") for number in range(1_000)])
    await service.warm("alice")
    posted = await service.post("alice")
    assert await service.feed("alice") == [posted]


@pytest.mark.every_store
async def test_retry_is_delivered_twice(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.warm("bob")
    first = await service.publish("alice", request_id="r", to=["repo:x"])
    await service.follow("bob", "repo:x")
    again = await service.publish("alice", request_id="r", to=["repo:x"])
    assert again.already_published
    assert again.activity == first.activity
    assert again.delivery.delivered_count == 0
    for name in ("alice", "bob", "repo:x"):
        assert await service.feed(name) == [first.activity.id]
        await service.chill(name)
        assert await service.feed(name) == [first.activity.id]


async def test_crash_between_store_and_fan_out_means_never_delivered(
    service: Service, store_url: str
) -> None:
    names = [f"f{number}" for number in range(40)]
    await service.follow_all([(name, "alice") for name in names])
    await service.warm(*names)
    requests = [
        PublishActivityRequest(activity=Activity(actor="alice", verb="post"), request_id=f"r{n}")
        for n in range(400)
    ]
    acknowledged: list[str] = []
    process = await create_subprocess_exec(sys.executable, "-c", PROCESS, store_url, stdout=PIPE)
    assert process.stdout is not None
    port = int(await process.stdout.readline())

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ActivityServiceStub(channel)

        async def publish(request: PublishActivityRequest) -> None:
            acknowledged.append((await stub.PublishActivity(request)).activity.id)

        running = [asyncio.create_task(publish(request)) for request in requests]

        async def under_way() -> bool:
            return len(acknowledged) >= 20

        await until(under_way)
        process.kill()
        await process.wait()
        await asyncio.gather(*running, return_exceptions=True)
    assert len(acknowledged) < len(requests), "it was killed too late for the test to mean anything"
    for name in names:
        assert set(acknowledged) <= set(await service.feed(name))
    retried = [
        (await service.activities.PublishActivity(request)).activity.id for request in requests
    ]
    assert set(acknowledged) <= set(retried)
    for name in names:
        assert await service.feed(name) == sorted(retried, reverse=True)
        found = await service.verify(name)
        assert (found.compared_count, list(found.differences)) == (len(requests), [])


@pytest.mark.every_store
async def test_whole_follower_set_is_sent_as_one_transaction(serve: Serve) -> None:
    service = await serve(limits=Limits(push_chunk=20))
    names = [f"f{number}" for number in range(600)]
    await service.follow_all([(name, "alice") for name in names])
    await asyncio.gather(*(service.warm(name) for name in names))
    before = await calls(service, "evalsha")
    published = await service.publish("alice")
    assert published.delivery.delivered_count == 600
    scripts = await calls(service, "evalsha") - before
    assert scripts >= 600 / 20


@pytest.mark.every_store
async def test_one_round_trip_per_follower(serve: Serve) -> None:
    service = await serve(workers=0)  # which look for jobs by scripts
    names = [f"f{number}" for number in range(600)]
    await service.follow_all([(name, "alice") for name in names])
    await asyncio.gather(*(service.warm(name) for name in names))
    before = await calls(service, "evalsha")
    published = await service.publish("alice")
    assert published.delivery.delivered_count == 600
    scripts = await calls(service, "evalsha") - before
    assert scripts <= 2 + Limits().shards  # and the publish, and the end of its job


async def test_batch_is_accepted_and_then_ignored(service: Service) -> None:
    """A batch takes few reads of the store's socket, not one for each entry."""
    await service.post("alice")  # the connection is there, the script is loaded
    before = (await service.store.info("stats"))["total_reads_processed"]
    await service.posts("alice", 500)
    reads = (await service.store.info("stats"))["total_reads_processed"] - before
    assert reads < 100


async def test_order_of_a_batch_is_lost(service: Service) -> None:
    posted = await service.posts("alice", 500)
    assert posted == sorted(posted)
    assert await service.outbox("alice", page_size=100) == posted[::-1]


async def test_order_of_a_batch_that_is_only_addressed_is_lost(service: Service) -> None:
    posted = await service.posts("alice", 100, to=["repo:x"], audience="AUDIENCE_TO_ONLY")
    assert await service.outbox("repo:x", page_size=100) == posted[::-1]


@pytest.mark.every_store
async def test_reported_fan_out_is_the_number_intended(service: Service) -> None:
    await service.follow_all([(f"w{n}", "alice") for n in range(7)])
    await service.follow_all([(f"c{n}", "alice") for n in range(5)])
    await service.warm("alice", *(f"w{n}" for n in range(7)))
    published = await service.publish("alice", request_id="r")
    assert (published.delivery.delivered_count, published.delivery.skipped_cold_count) == (7, 5)
    again = await service.publish("alice", request_id="r")
    assert (again.delivery.state, again.delivery.delivered_count) == (DELIVERED, 0)


async def test_pipeline_errors_are_never_looked_at(serve: Serve) -> None:
    """A delivery that fails halfway is gone on with until it has reached everybody."""
    service = await serve(limits=Limits(job_lease=1))
    names = [f"f{number}" for number in range(50)]
    await service.follow_all([(name, "alice") for name in names])
    await service.warm(*names)
    broken = keys.feed(service.tag("f7"), "f7")
    await service.store.set(broken, "not a list")
    published = await service.publish("alice")
    assert published.delivery.state == QUEUED

    async def tried() -> bool:
        return (await service.server.engine.jobs.status()).inline == 0

    await until(tried)
    await service.store.delete(broken)

    async def over() -> bool:
        return (await service.delivery(published.activity.id)).state == DELIVERED

    await until(over)
    for name in names:
        assert await service.feed(name) == [published.activity.id]
        assert not (await service.verify(name)).differences


@pytest.mark.every_store
async def test_bodies_that_no_outbox_holds_stay_for_ever(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await service.posts("alice", 50)
    assert await service.outbox("alice") == posted[:29:-1]
    for number, one in enumerate(posted):
        key = service.activity_key(one)
        if number >= 30:
            assert (await service.get(one)).id == one
            assert await service.store.ttl(key) == -1
        else:
            assert (await refused(service.get(one))).reason == "ACTIVITY_NOT_FOUND"
            assert await service.store.get(key) == b""
            assert 0 < await service.store.ttl(key) <= 2 * SMALL.feed_ttl


@pytest.mark.every_store
async def test_bodies_held_by_outboxes_elsewhere_stay_for_ever(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    # In three shards, so that letting go needs word from one to the other.
    assert len({service.tag(name) for name in ("alice", "repo:x", "topic:y")}) == 3
    first = await service.post("alice", to=["repo:x", "topic:y"], external_id="e")
    await service.posts("alice", 20)
    await service.posts("repo:x", 20)
    forget = service.server.engine.retention.carry
    await forget()
    assert await service.outbox("topic:y") == [first]
    await service.posts("topic:y", 20)
    await forget()
    assert (await refused(service.get(first))).reason == "ACTIVITY_NOT_FOUND"
    left = [name for name in await service.dump() if first.encode() in name]
    assert left == [service.activity_key(first).encode()]
    external = [name for name in await service.dump() if name.endswith(b"x:alice\0e")]
    assert [await service.store.ttl(name) > 0 for name in external] == [True]


@pytest.mark.parametrize("length", [1, 127, 128, 256])
async def test_external_ids_of_what_was_trimmed_stay_for_ever(serve: Serve, length: int) -> None:
    """Scripts find their names in the stored activity: a text of 128 bytes has a longer length."""
    service = await serve(limits=SMALL)
    actor, external_id = "a" * length, "e" * length
    await service.post(actor, external_id=external_id)
    record = f"{service.tag(actor)}x:{actor}\0{external_id}"
    assert await service.store.ttl(record) == -1
    await service.posts(actor, 21)
    assert await service.store.ttl(record) > 0


@pytest.mark.parametrize("count", [19, 20, 21, 22])
async def test_outbox_caps_are_off_by_one(serve: Serve, count: int) -> None:
    service = await serve(limits=SMALL)
    posted = await service.posts("alice", count)
    assert await service.outbox("alice") == posted[::-1][:20]
    page = await service.outbox_page("alice", page_size=100)
    trimmed = count > 20
    assert page.end == (PAGE_END_RETENTION if trimmed else PAGE_END_FEED_END)


@pytest.mark.parametrize("count", [9, 10, 11, 12, 13, 14])
async def test_feed_caps_are_off_by_one(serve: Serve, count: int) -> None:
    """A feed of at most 10 that is trimmed at more than 12 keeps all up to 12, and 10 at 13."""
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    await service.warm("alice", "bob")
    posted = await service.posts("alice", count)
    entries = count if count <= 12 else count - 3
    for name in ("alice", "bob"):
        stats = await service.stats(name)
        assert stats.entry_count == entries
        assert stats.floor == (posted[-entries - 1] if count > 12 else "")
        assert await service.feed(name) == posted[::-1]


async def test_own_feeds_are_not_trimmed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.warm("alice")
    for _ in range(60):
        await service.post("alice")
        assert (await service.stats("alice")).entry_count <= 12


@pytest.mark.parametrize("warm", [True, False])
async def test_backfills_are_not_trimmed(serve: Serve, *, warm: bool) -> None:
    service = await serve(limits=SMALL)
    for number in range(5):
        await service.posts(f"a{number}", 20)
    if warm:
        await service.warm("bob")
    for number in range(5):
        await service.follow("bob", f"a{number}")
        assert (await service.stats("bob")).entry_count <= 12
    await service.warm("bob")
    assert 10 <= (await service.stats("bob")).entry_count <= 12


async def test_local_time_without_a_zone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # UTC+14
    time.tzset()
    try:
        before = time.time_ns() // 1_000_000
        published = (await service.publish("alice")).activity
        after = time.time_ns() // 1_000_000
    finally:
        monkeypatch.undo()
        time.tzset()
    assert before <= published.publish_time.ToMilliseconds() <= after
    assert before <= ids.ms_of(int(published.id)) <= after
    stored = await service.get(published.id)
    assert stored == published


@pytest.mark.every_store
async def test_future_timestamp_is_pinned_on_top(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.warm("bob")
    tomorrow = at_ms(time.time_ns() // 1_000_000 + 86_400_000)
    pinned = await service.publish("alice", publish_time=tomorrow)
    assert pinned.activity.publish_time == tomorrow
    assert ids.ms_of(int(pinned.activity.id)) <= time.time_ns() // 1_000_000
    later = await service.post("alice")
    assert await service.feed("bob") == [later, pinned.activity.id]
    assert (await service.get(pinned.activity.id)).publish_time == tomorrow


async def test_past_timestamp_slips_in_behind_the_cursor(service: Service) -> None:
    """The walk is not disturbed, and whoever keeps the feed is told by the log."""
    await service.follow("bob", "alice")
    noon = time.time_ns() // 1_000_000 - 3_600_000
    posted = [await service.post("alice", publish_time=at_ms(noon + 1_000 * n)) for n in range(10)]
    first = await service.page("bob", size=5, resumable=True)
    assert ids_of(first) == posted[:4:-1]
    slipped = await service.post("alice", publish_time=at_ms(noon + 7_500))
    ahead = await service.post("alice", publish_time=at_ms(noon + 2_500))
    rest = [
        one async for page in service.walk("bob", first.next_page_token, 3) for one in ids_of(page)
    ]
    assert rest == [posted[4], posted[3], ahead, posted[2], posted[1], posted[0]]
    stream = await service.subscribe("bob", first.resume_token)
    assert await stream.events(2) == [("added", slipped), ("added", ahead)]
    await stream.close()
    assert await service.feed("bob") == sorted([*posted, slipped, ahead], reverse=True)


#: Names that look like keys, parts of keys, marks inside stored values, or each other.
ODD = [
    "bob",
    "f:bob",
    "{0}f:bob",
    "cache:bob:1",
    "x-out",
    "feedsvc:meta",
    "v",
    "g",
    "!0123456789abcdef",
    "0",
    "-inf",
    "(1",
    "+",
    "bob ",
    " bob",
    "BOB",
    "b\u00f6b",  # composed and decomposed: compared byte by byte
    "bo\u0308b",
    "bob*",
    "[bob]",
    "bob?",
    "a" * 256,
    "1898765432109876543",
    "1898765432109876543 repo:x",
    "\U0001f600",
]


@pytest.mark.every_store
async def test_key_made_of_raw_ids_collides(service: Service) -> None:
    for name in ODD:
        await service.follow(f"reader of {name}"[:256], name)
        await service.warm(name)
    posted = {
        name: await service.post(name, external_id=name, request_id=name[:128]) for name in ODD
    }
    readers = Counter(f"reader of {name}"[:256] for name in ODD)
    assert set(readers.values()) == {1}
    for name in ODD:
        assert await service.feed(name) == [posted[name]]
        assert await service.feed(f"reader of {name}"[:256]) == [posted[name]]
        assert await service.counts(name) == (1, 0)
        assert await service.followers(name) == [f"reader of {name}"[:256]]
        assert await service.outbox(name) == [posted[name]]
    for name in ODD:
        await service.unfollow(f"reader of {name}"[:256], name)
        await service.delete(posted[name], name)
    for name in ODD:
        assert await service.feed(name) == []


async def test_score_is_not_the_time_in_the_token(service: Service) -> None:
    """One clock: the id alone gives order, place and continuation."""
    await service.follow("bob", "alice")
    await service.warm("bob")
    start = time.time_ns() // 1_000_000 - 1_000_000
    offsets = [(number * 37) % 100 for number in range(100)]
    posted = {
        offset: await service.post("alice", publish_time=at_ms(start + offset))
        for offset in offsets
    }
    for offset, one in posted.items():
        assert ids.ms_of(int(one)) == start + offset
    expected = [posted[offset] for offset in sorted(offsets, reverse=True)]
    assert await service.feed("bob", size=7) == expected
    await service.chill("bob")
    assert await service.feed("bob", size=7) == expected
