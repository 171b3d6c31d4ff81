"""Mistakes that feed systems make when they publish and deliver."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections import Counter
from unittest.mock import patch

import grpc
import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import DeliveryState, PublishActivityRequest
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_pb2 import PAGE_END_FEED_END, PAGE_END_RETENTION

from feedsvc.config import Limits
from feedsvc.core import ids, keys
from feedsvc.core.store import Store
from tests.serving import Serve, Service, at_ms, expect_refusal, ids_on_page, wait_until

DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED
QUEUED = DeliveryState.DELIVERY_STATE_QUEUED

#: Caps that are small enough for a test to fill.
SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20)

#: The program of a separate server process, which the test kills.
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


async def count_calls(service: Service, command: str) -> int:
    """Return the number of times that the store has run a command since it started."""
    stats = await service.store.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.mark.every_store
async def test_following_twice_counts_one_follower(service: Service) -> None:
    """Pitfall: following twice counts two followers."""
    await service.follow("bob", "alice")
    assert (await service.follow("bob", "alice")).already_following
    assert await service.counts("alice") == (1, 0)
    assert await service.counts("bob") == (0, 1)
    assert await service.followers("alice") == ["bob"]


async def test_following_many_times_at_once_counts_one_follower(service: Service) -> None:
    """Pitfall: concurrent follows of the same edge count it more than once."""
    answers = await asyncio.gather(*(service.follow("bob", "alice") for _ in range(40)))
    assert [answer.already_following for answer in answers].count(False) == 1
    assert await service.counts("alice") == (1, 0)
    assert await service.followers("alice") == ["bob"]


@pytest.mark.every_store
async def test_unfollowing_a_stranger_changes_no_count(service: Service) -> None:
    """Pitfall: unfollowing a stranger counts minus one follower."""
    assert not (await service.unfollow("bob", "alice")).was_following
    assert await service.counts("alice") == (0, 0)
    assert await service.counts("bob") == (0, 0)
    await service.follow("bob", "alice")
    await asyncio.gather(*(service.unfollow("bob", "alice") for _ in range(20)))
    assert await service.counts("alice") == (0, 0)
    assert await service.counts("bob") == (0, 0)


async def test_follower_list_and_follower_count_agree(service: Service) -> None:
    """Pitfall: the list is capped while the counter beside it is not."""
    names = [f"f{number}" for number in range(250)]
    await service.follow_all([(name, "alice") for name in names])
    assert await service.counts("alice") == (250, 0)
    assert sorted(await service.followers("alice")) == sorted(names)


@pytest.mark.every_store
async def test_author_without_followers_sees_its_own_activity(service: Service) -> None:
    """Pitfall: an author without followers never sees its own activity in its own feed."""
    first_id = await service.post("alice")
    assert await service.feed("alice") == [first_id]
    second_id = await service.post("alice")
    assert await service.feed("alice") == [second_id, first_id]


async def test_author_with_very_many_followers_sees_its_own_activity(serve: Serve) -> None:
    """Pitfall: an author with very many followers never sees its own activity in its own feed."""
    service = await serve(limits=Limits(push_chunk=10))
    await service.follow_all([(f"f{number}", "alice") for number in range(1_000)])
    await service.warm("alice")
    activity_id = await service.post("alice")
    assert await service.feed("alice") == [activity_id]


@pytest.mark.every_store
async def test_retry_of_a_publish_delivers_nothing_again(service: Service) -> None:
    """Pitfall: a client's retry of a publish is delivered twice."""
    await service.follow("bob", "alice")
    await service.warm("bob")
    published = await service.publish("alice", request_id="r", to=["repo:x"])
    await service.follow("bob", "repo:x")
    again = await service.publish("alice", request_id="r", to=["repo:x"])
    assert again.already_published
    assert again.activity == published.activity
    assert again.delivery.delivered_count == 0
    for name in ("alice", "bob", "repo:x"):
        assert await service.feed(name) == [published.activity.id]
        await service.make_cold(name)
        assert await service.feed(name) == [published.activity.id]


async def test_acknowledged_publishes_are_delivered_although_the_server_crashes(
    service: Service, store_url: str
) -> None:
    """Pitfall: an activity is never delivered if the server crashes before its fan-out."""
    names = [f"f{number}" for number in range(40)]
    await service.follow_all([(name, "alice") for name in names])
    await service.warm(*names)
    requests = [
        PublishActivityRequest(
            activity=Activity(actor="alice", verb="post"), request_id=f"r{number}"
        )
        for number in range(400)
    ]
    acknowledged: list[str] = []
    process = await create_subprocess_exec(sys.executable, "-c", PROCESS, store_url, stdout=PIPE)
    assert process.stdout is not None
    port = int(await process.stdout.readline())

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ActivityServiceStub(channel)

        async def publish(request: PublishActivityRequest) -> None:
            acknowledged.append((await stub.PublishActivity(request)).activity.id)

        publishing = [asyncio.create_task(publish(request)) for request in requests]

        async def enough_acknowledged() -> bool:
            return len(acknowledged) >= 20

        await wait_until(enough_acknowledged)
        process.kill()
        await process.wait()
        await asyncio.gather(*publishing, return_exceptions=True)
    assert len(acknowledged) < len(requests), (
        "the server was killed too late: it had answered every request"
    )
    for name in names:
        assert set(acknowledged) <= set(await service.feed(name))
    retried = [
        (await service.activities.PublishActivity(request)).activity.id for request in requests
    ]
    assert set(acknowledged) <= set(retried)
    for name in names:
        assert await service.feed(name) == sorted(retried, reverse=True)
        verification = await service.verify(name)
        assert (verification.compared_count, list(verification.differences)) == (len(requests), [])


@pytest.mark.every_store
async def test_large_fan_out_is_sent_in_several_scripts(serve: Serve) -> None:
    """Pitfall: the whole follower set is sent as one transaction, which blocks the store."""
    service = await serve(limits=Limits(push_chunk=20))
    names = [f"f{number}" for number in range(600)]
    await service.follow_all([(name, "alice") for name in names])
    await asyncio.gather(*(service.warm(name) for name in names))
    scripts_before = await count_calls(service, "evalsha")
    published = await service.publish("alice")
    assert published.delivery.delivered_count == 600
    scripts = await count_calls(service, "evalsha") - scripts_before
    assert scripts >= 600 / 20


@pytest.mark.every_store
async def test_fan_out_takes_few_round_trips(serve: Serve) -> None:
    """Pitfall: a fan-out takes a round trip for each follower."""
    service = await serve(workers=0)  # workers would run scripts too, to look for jobs
    names = [f"f{number}" for number in range(600)]
    await service.follow_all([(name, "alice") for name in names])
    await asyncio.gather(*(service.warm(name) for name in names))
    # The store itself would also count the scripts of a greeting.
    with patch.object(Store, "script", autospec=True, side_effect=Store.script) as script:
        published = await service.publish("alice")
    assert published.delivery.delivered_count == 600
    names = Counter(call.args[1] for call in script.await_args_list)
    del names["trim_notes_take"]  # retention looks for work beside the fan-out
    # The publish and the end of its job are the 2.
    assert names.total() <= 2 + Limits().shards, names


async def test_batch_takes_few_round_trips(service: Service) -> None:
    """Pitfall: a batch is accepted, and then handled one entry at a time."""
    await service.post("alice")  # opens the connection and loads the script
    reads_before = (await service.store.info("stats"))["total_reads_processed"]
    await service.post_many("alice", 500)
    reads = (await service.store.info("stats"))["total_reads_processed"] - reads_before
    assert reads < 150


async def test_batch_keeps_its_order(service: Service) -> None:
    """Pitfall: the entries of a batch are published in another order."""
    posted = await service.post_many("alice", 500)
    assert posted == sorted(posted)
    assert await service.outbox("alice", page_size=100) == posted[::-1]


async def test_batch_that_is_only_addressed_to_others_keeps_its_order(service: Service) -> None:
    """Pitfall: the entries of a batch reach the outboxes of others in another order."""
    posted = await service.post_many("alice", 100, to=["repo:x"], audience="AUDIENCE_TO_ONLY")
    assert await service.outbox("repo:x", page_size=100) == posted[::-1]


@pytest.mark.every_store
async def test_reported_fan_out_is_the_number_of_feeds_reached(service: Service) -> None:
    """Pitfall: the reported fan-out count is the number that was intended."""
    await service.follow_all([(f"w{number}", "alice") for number in range(7)])
    await service.follow_all([(f"c{number}", "alice") for number in range(5)])
    await service.warm("alice", *(f"w{number}" for number in range(7)))
    published = await service.publish("alice", request_id="r")
    assert (published.delivery.delivered_count, published.delivery.skipped_cold_count) == (7, 5)
    again = await service.publish("alice", request_id="r")
    assert (again.delivery.state, again.delivery.delivered_count) == (DELIVERED, 0)


async def test_delivery_that_fails_halfway_is_retried_until_it_reaches_every_follower(
    serve: Serve,
) -> None:
    """Pitfall: errors of a pipeline are never looked at, so that followers miss activities."""
    service = await serve(limits=Limits(job_lease=1))
    names = [f"f{number}" for number in range(50)]
    await service.follow_all([(name, "alice") for name in names])
    await service.warm(*names)
    broken_key = keys.feed(service.tag("f7"), "f7")
    await service.store.set(broken_key, "not a list")
    published = await service.publish("alice")
    assert published.delivery.state == QUEUED

    async def first_attempt_ended() -> bool:
        return (await service.server.engine.jobs.status()).inline == 0

    await wait_until(first_attempt_ended)
    await service.store.delete(broken_key)

    async def is_delivered() -> bool:
        return (await service.delivery(published.activity.id)).state == DELIVERED

    await wait_until(is_delivered)
    for name in names:
        assert await service.feed(name) == [published.activity.id]
        assert not (await service.verify(name)).differences


@pytest.mark.every_store
async def test_activities_that_no_outbox_holds_expire(serve: Serve) -> None:
    """Pitfall: bodies of activities that no outbox holds any more stay for ever."""
    service = await serve(limits=SMALL)
    posted = await service.post_many("alice", 50)
    assert await service.outbox("alice") == posted[:29:-1]
    for number, activity_id in enumerate(posted):
        key = service.activity_key(activity_id)
        if number >= 30:
            assert (await service.get(activity_id)).id == activity_id
            assert await service.store.ttl(key) == -1
        else:
            assert (await expect_refusal(service.get(activity_id))).reason == "ACTIVITY_NOT_FOUND"
            assert await service.store.get(key) == b""
            assert 0 < await service.store.ttl(key) <= 2 * SMALL.feed_ttl


@pytest.mark.every_store
async def test_activity_expires_when_the_last_of_several_outboxes_trims_it(serve: Serve) -> None:
    """Pitfall: an activity that outboxes of several shards have trimmed stays for ever."""
    service = await serve(limits=SMALL)
    # In three shards: each shard that trims the activity must notify the activity's own shard.
    assert len({service.tag(name) for name in ("alice", "repo:x", "topic:y")}) == 3
    activity_id = await service.post("alice", to=["repo:x", "topic:y"], external_id="e")
    await service.post_many("alice", 20)
    await service.post_many("repo:x", 20)
    carry = service.server.engine.retention.carry
    await carry()
    assert await service.outbox("topic:y") == [activity_id]
    await service.post_many("topic:y", 20)
    await carry()
    assert (await expect_refusal(service.get(activity_id))).reason == "ACTIVITY_NOT_FOUND"
    remaining_keys = [name for name in await service.dump() if activity_id.encode() in name]
    assert remaining_keys == [service.activity_key(activity_id).encode()]
    external_id_keys = [name for name in await service.dump() if name.endswith(b"x:alice\0e")]
    assert [await service.store.ttl(name) > 0 for name in external_id_keys] == [True]


@pytest.mark.parametrize("length", [1, 127, 128, 256])
async def test_external_ids_of_trimmed_activities_expire(serve: Serve, length: int) -> None:
    """Pitfall: the records of external ids stay for ever after their activities are trimmed.

    Scripts parse names out of the stored activity, where the length of a text of 128 bytes takes
    one byte more.
    """
    service = await serve(limits=SMALL)
    actor, external_id = "a" * length, "e" * length
    await service.post(actor, external_id=external_id)
    record = f"{service.tag(actor)}x:{actor}\0{external_id}"
    assert await service.store.ttl(record) == -1
    await service.post_many(actor, 21)
    assert await service.store.ttl(record) > 0


@pytest.mark.parametrize("count", [19, 20, 21, 22])
async def test_outbox_keeps_exactly_its_cap(serve: Serve, count: int) -> None:
    """Pitfall: the cap of an outbox is off by one."""
    service = await serve(limits=SMALL)
    posted = await service.post_many("alice", count)
    assert await service.outbox("alice") == posted[::-1][:20]
    page = await service.outbox_page("alice", page_size=100)
    trimmed = count > 20
    assert page.end == (PAGE_END_RETENTION if trimmed else PAGE_END_FEED_END)


@pytest.mark.parametrize("count", [9, 10, 11, 12, 13, 14])
async def test_feed_is_trimmed_to_exactly_its_cap(serve: Serve, count: int) -> None:
    """Pitfall: the cap of a feed is off by one.

    A feed with a cap of 10 and a slack of 2 keeps up to 12 entries, and 10 when the 13th comes.
    """
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    await service.warm("alice", "bob")
    posted = await service.post_many("alice", count)
    entries = count if count <= 12 else count - 3
    for name in ("alice", "bob"):
        stats = await service.stats(name)
        assert stats.entry_count == entries
        assert stats.floor == (posted[-entries - 1] if count > 12 else "")
        assert await service.feed(name) == posted[::-1]


async def test_authors_own_feed_is_trimmed(serve: Serve) -> None:
    """Pitfall: an author's own feed is not trimmed."""
    service = await serve(limits=SMALL)
    await service.warm("alice")
    for _ in range(60):
        await service.post("alice")
        assert (await service.stats("alice")).entry_count <= 12


@pytest.mark.parametrize("warm", [True, False])
async def test_backfill_of_a_follow_is_trimmed(serve: Serve, *, warm: bool) -> None:
    """Pitfall: the backfills of follows are not trimmed."""
    service = await serve(limits=SMALL)
    for number in range(5):
        await service.post_many(f"a{number}", 20)
    if warm:
        await service.warm("bob")
    for number in range(5):
        await service.follow("bob", f"a{number}")
        assert (await service.stats("bob")).entry_count <= 12
    await service.warm("bob")
    assert 10 <= (await service.stats("bob")).entry_count <= 12


async def test_times_do_not_depend_on_the_servers_time_zone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall: times are stored as local time without a zone."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # UTC+14
    time.tzset()
    try:
        before_ms = time.time_ns() // 1_000_000
        published = (await service.publish("alice")).activity
        after_ms = time.time_ns() // 1_000_000
    finally:
        monkeypatch.undo()
        time.tzset()
    assert before_ms <= published.publish_time.ToMilliseconds() <= after_ms
    assert before_ms <= ids.ms_of(int(published.id)) <= after_ms
    stored = await service.get(published.id)
    assert stored == published


@pytest.mark.every_store
async def test_future_publish_time_does_not_pin_an_activity_on_top(service: Service) -> None:
    """Pitfall: an activity with a future timestamp stays on top of the feed."""
    await service.follow("bob", "alice")
    await service.warm("bob")
    tomorrow = at_ms(time.time_ns() // 1_000_000 + 86_400_000)
    published = await service.publish("alice", publish_time=tomorrow)
    assert published.activity.publish_time == tomorrow
    assert ids.ms_of(int(published.activity.id)) <= time.time_ns() // 1_000_000
    later_id = await service.post("alice")
    assert await service.feed("bob") == [later_id, published.activity.id]
    assert (await service.get(published.activity.id)).publish_time == tomorrow


async def test_past_publish_time_does_not_disturb_a_walk_and_reaches_the_stream(
    service: Service,
) -> None:
    """Pitfall: an activity with a past timestamp slips in behind the cursor and is never seen."""
    await service.follow("bob", "alice")
    start_ms = time.time_ns() // 1_000_000 - 3_600_000
    posted = [
        await service.post("alice", publish_time=at_ms(start_ms + 1_000 * number))
        for number in range(10)
    ]
    first = await service.page("bob", size=5, resumable=True)
    assert ids_on_page(first) == posted[:4:-1]
    id_above_cursor = await service.post("alice", publish_time=at_ms(start_ms + 7_500))
    id_below_cursor = await service.post("alice", publish_time=at_ms(start_ms + 2_500))
    lower_ids = [
        activity_id
        async for page in service.walk("bob", first.next_page_token, 3)
        for activity_id in ids_on_page(page)
    ]
    assert lower_ids == [posted[4], posted[3], id_below_cursor, posted[2], posted[1], posted[0]]
    stream = await service.subscribe("bob", first.resume_token)
    assert await stream.read_events(2) == [("added", id_above_cursor), ("added", id_below_cursor)]
    await stream.close()
    assert await service.feed("bob") == sorted(
        [*posted, id_above_cursor, id_below_cursor], reverse=True
    )


#: Names that look like keys, parts of keys, control characters of stored values, or each other.
CONFUSABLE_NAMES = [
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
    "b\u00f6b",  # composed and decomposed: names are compared byte by byte
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
async def test_names_that_look_like_keys_do_not_collide(service: Service) -> None:
    """Pitfall: keys are made of raw names, so that a user `cache:bob:1` collides with a key."""
    for name in CONFUSABLE_NAMES:
        await service.follow(f"reader of {name}"[:256], name)
        await service.warm(name)
    posted = {
        name: await service.post(name, external_id=name, request_id=name[:128])
        for name in CONFUSABLE_NAMES
    }
    readers = Counter(f"reader of {name}"[:256] for name in CONFUSABLE_NAMES)
    assert set(readers.values()) == {1}
    for name in CONFUSABLE_NAMES:
        assert await service.feed(name) == [posted[name]]
        assert await service.feed(f"reader of {name}"[:256]) == [posted[name]]
        assert await service.counts(name) == (1, 0)
        assert await service.followers(name) == [f"reader of {name}"[:256]]
        assert await service.outbox(name) == [posted[name]]
    for name in CONFUSABLE_NAMES:
        await service.unfollow(f"reader of {name}"[:256], name)
        await service.delete(posted[name], name)
    for name in CONFUSABLE_NAMES:
        assert await service.feed(name) == []


async def test_order_place_and_cursor_follow_the_id_alone(service: Service) -> None:
    """Pitfall: an activity's score in the feed is not the time in the page token."""
    await service.follow("bob", "alice")
    await service.warm("bob")
    start_ms = time.time_ns() // 1_000_000 - 1_000_000
    offsets = [(number * 37) % 100 for number in range(100)]
    posted = {
        offset: await service.post("alice", publish_time=at_ms(start_ms + offset))
        for offset in offsets
    }
    for offset, activity_id in posted.items():
        assert ids.ms_of(int(activity_id)) == start_ms + offset
    expected = [posted[offset] for offset in sorted(offsets, reverse=True)]
    assert await service.feed("bob", size=7) == expected
    await service.make_cold("bob")
    assert await service.feed("bob", size=7) == expected
