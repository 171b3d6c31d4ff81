"""Mistakes that live feeds make."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest

from feedsvc.config import Limits
from feedsvc.core import keys
from tests.serving import Serve, Service, ids_on_page, wait_until

#: Seconds between checkpoints, at which a stream reads its log unasked: no test lasts so long.
CHECKPOINT_NEVER = 300
#: Activities, and bytes in each, that exceed what gRPC buffers of an unread stream: 12 MB.
ACTIVITY_COUNT, CONTENT = 1_500, "x" * 8_192


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=CHECKPOINT_NEVER)


def log_key(service: Service, user: str) -> str:
    return f"{service.tag(user)}l:{user}"


async def is_listening(service: Service) -> bool:
    """Return whether the server listens for wake-ups."""
    subscribers = await service.store.pubsub_numsub(keys.wake(service.tag("bob")))
    return bool(subscribers[0][1])


async def count_connections(service: Service) -> int:
    return len(await service.store.client_list())


@pytest.mark.every_store
async def test_stream_gets_what_another_process_publishes(serve: Serve) -> None:
    """Pitfall: nothing ever publishes to the channel that a stream listens to.

    Another process publishes, so that only the store's channel can wake the stream.
    """
    server_a = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    server_b = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    await server_a.follow("bob", "alice")
    stream = await server_a.subscribe("bob")
    activity_id = ""
    for _ in range(20):
        activity_id = await server_b.post("alice")
        assert await stream.read_event() == ("added", activity_id)
    await server_b.delete(activity_id, "alice")
    assert await stream.read_event() == ("removed", activity_id)
    own_id = await server_b.post("bob")
    assert await stream.read_event() == ("added", own_id)
    addressed_id = await server_b.post("carol", to=["bob"])
    assert await stream.read_event() == ("added", addressed_id)


@pytest.mark.every_store
async def test_each_event_arrives_once_in_each_tab(service: Service) -> None:
    """Pitfall: an event arrives once for each route, retry or open tab."""
    for source in ("alice", "repo:x", "topic:y"):
        await service.follow("bob", source)
    tabs = [await service.subscribe("bob") for _ in range(5)]
    expected = []
    activity_id = ""
    for number in range(20):
        request_id = f"r{number}"
        activity_id = await service.post("alice", to=["repo:x", "topic:y"], request_id=request_id)
        await service.post("alice", to=["repo:x", "topic:y"], request_id=request_id)
        expected.append(("added", activity_id))
    await service.delete(activity_id, "alice", request_id="d")
    await service.delete(activity_id, "alice", request_id="d")
    expected.append(("removed", activity_id))
    last_id = await service.post("bob")
    for tab in tabs:
        assert await tab.read_until(("added", last_id)) == [*expected, ("added", last_id)]


async def test_subscribers_share_connections_and_threads(service: Service) -> None:
    """Pitfall: each subscriber takes a connection and a thread."""
    await service.follow("bob", "alice")
    await (await service.subscribe("bob")).close()
    counts_before = await count_connections(service), threading.active_count()
    streams = [await service.subscribe(f"u{number}") for number in range(100)]
    streams += [await service.subscribe("bob") for _ in range(100)]
    assert (await count_connections(service), threading.active_count()) == counts_before
    activity_id = await service.post("alice")
    for stream in streams[100:]:
        assert await stream.read_event() == ("added", activity_id)


async def test_closed_streams_leave_no_reader_behind(service: Service) -> None:
    """Pitfall: what the server keeps for a subscriber is never freed."""
    readers = service.server.engine.live._cursors
    streams = [await service.subscribe(f"u{number % 7}") for number in range(70)]
    assert len(readers) == 7
    for stream in streams:
        await stream.close()

    async def all_gone() -> bool:
        return not readers

    await wait_until(all_gone)


@pytest.mark.every_store
async def test_stream_follows_later_follows_and_unfollows(service: Service) -> None:
    """Pitfall: a stream reads the followees only once, so that later follows do not count."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    await service.follow("bob", "carol")
    assert await stream.read_event() == ("followed", "carol")
    activity_id = await service.post("carol")
    assert await stream.read_event() == ("added", activity_id)
    await service.unfollow("bob", "alice")
    assert await stream.read_event() == ("unfollowed", "alice")
    await service.post("alice")
    last_id = await service.post("carol")
    assert await stream.read_event() == ("added", last_id)


@pytest.mark.every_store
async def test_stream_gets_events_of_the_time_without_a_pubsub_connection(service: Service) -> None:
    """Pitfall: events are lost while the pub/sub connection is down, or for ever after."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    for _ in range(5):
        await wait_until(lambda: is_listening(service))
        assert await service.store.client_kill_filter(_type="pubsub") >= 1
        posting = asyncio.create_task(service.post_many("alice", 3))
        while not posting.done():  # cut each new listener off as well
            await service.store.client_kill_filter(_type="pubsub")
        missed_ids = await posting
        assert await stream.read_events(3) == [("added", activity_id) for activity_id in missed_ids]
        await wait_until(lambda: is_listening(service))
        later_id = await service.post("alice")
        assert await stream.read_event() == ("added", later_id)


@pytest.mark.every_store
async def test_stream_gets_events_after_all_connections_were_lost(serve: Serve) -> None:
    """Pitfall: nothing arrives any more after the server has lost its connections to the store."""
    server_a = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    server_b = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    await server_a.follow("bob", "alice")
    stream = await server_a.subscribe("bob")
    for number in range(5):
        for kind in ("pubsub", "normal"):
            await server_a.store.client_kill_filter(_type=kind, skipme=True)
        activity_id = await server_b.post("alice", request_id=f"r{number}")
        assert await stream.read_event() == ("added", activity_id)


@pytest.mark.every_store
async def test_stream_resumes_after_a_server_restart(serve: Serve) -> None:
    """Pitfall: events are lost while a server restarts, and no client learns of it."""
    first_server = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    await first_server.follow("bob", "alice")
    stream = await first_server.subscribe("bob")
    for _ in range(3):
        activity_id = await first_server.post("alice")
        assert await stream.read_event() == ("added", activity_id)
    missed_ids = await first_server.post_many("alice", 2)
    token = stream.token
    await first_server.stop()
    second_server = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    missed_ids.append(await second_server.post("alice"))
    resumed = await second_server.subscribe("bob", token)
    assert await resumed.read_events(3) == [("added", activity_id) for activity_id in missed_ids]


@pytest.mark.every_store
async def test_every_resume_token_resumes_without_gap_or_repeat(serve: Serve) -> None:
    """Pitfall: messages carry no id, so that a stream cannot resume where it broke off.

    A stream resumes from each message, on another process: it gets exactly what came later.
    """
    server_a = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    server_b = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    await server_a.follow("bob", "alice")
    stream = await server_a.subscribe("bob")
    start_token = stream.token
    expected, tokens = [], [start_token]
    for number in range(12):
        if number % 4 == 3:
            await server_a.follow("bob", f"a{number}")
            expected.append(("followed", f"a{number}"))
        else:
            expected.append(("added", await server_a.post("alice")))
        assert await stream.read_event() == expected[-1]
        tokens.append(stream.token)
    assert len(set(tokens)) == len(tokens)
    for index, token in enumerate(tokens):
        resumed = await server_b.subscribe("bob", token)
        assert await resumed.read_events(len(expected) - index) == expected[index:]
        last_id = await server_a.post("alice")
        assert await resumed.read_event() == ("added", last_id)
        expected.append(("added", last_id))
        await resumed.close()


async def break_log_in_each_way(service: Service, token: str) -> AsyncIterator[str]:
    """Break the log in each way in which it can lack what a token refers to; yield after each."""
    log = log_key(service, "bob")
    await service.store.xtrim(log, maxlen=1, approximate=False)
    yield "trimmed"
    await service.store.delete(log)
    yield "expired"
    await service.store.delete(log, keys.live(service.tag("bob")))
    await (await service.subscribe("bob")).close()
    await service.post_many("alice", 10)
    yield "begun anew, and grown beyond the token's position"
    await service.store.zadd(keys.live(service.tag("bob")), {"bob": 1})
    yield "lease expired"


@pytest.mark.every_store
async def test_resume_token_older_than_the_log_is_refused_with_a_fresh_token(
    service: Service,
) -> None:
    """Pitfall: a stream whose log no longer reaches back skips the missing events in silence."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    token = stream.token
    for _ in range(4):
        activity_id = await service.post("alice")
        assert await stream.read_event() == ("added", activity_id)
    await stream.close()
    way_count = 0
    async for _ in break_log_in_each_way(service, token):
        fresh_token = await (await service.subscribe("bob", token)).read_expired_token()
        # The stream resumes from the fresh token.
        resumed = await service.subscribe("bob", fresh_token)
        activity_id = await service.post("alice")
        assert await resumed.read_event() == ("added", activity_id)
        resumed_again = await service.subscribe("bob", resumed.token)
        last_id = await service.post("alice")
        assert await resumed_again.read_event() == ("added", last_id)
        await resumed_again.close()
        await resumed.close()
        way_count += 1
    assert way_count == 4


@pytest.mark.every_store
async def test_resume_token_of_a_lost_log_tail_is_refused(service: Service) -> None:
    """Pitfall: a store that loses its last writes gives their numbers to other events."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    log = log_key(service, "bob")
    older_log = await service.store.dump(log)
    assert older_log is not None
    lost_id = await service.post("alice")
    assert await stream.read_event() == ("added", lost_id)
    token = stream.token
    await stream.close()
    await service.store.restore(log, 0, older_log, replace=True)
    other_ids = await service.post_many("alice", 3)
    await (await service.subscribe("bob", token)).read_expired_token()
    assert set(other_ids) <= set(await service.feed("bob"))


@pytest.mark.every_store
async def test_stream_continues_where_a_resumable_page_was_read(service: Service) -> None:
    """Pitfall: what happens after a page is read and before its stream opens is lost."""
    await service.follow("bob", "alice")
    ids_before = await service.post_many("alice", 3)
    page = await service.page("bob", resumable=True)
    assert ids_on_page(page) == ids_before[::-1]
    missed_ids = await service.post_many("alice", 3)
    await service.delete(ids_before[0], "alice")
    stream = await service.subscribe("bob", page.resume_token)
    assert await stream.read_events(4) == [
        *(("added", activity_id) for activity_id in missed_ids),
        ("removed", ids_before[0]),
    ]


@pytest.mark.every_store
async def test_resume_token_of_a_page_without_a_log_is_refused_with_a_fresh_token(
    service: Service,
) -> None:
    """Pitfall: a stream resumes from a page that began no log, and skips events in silence."""
    await service.follow("bob", "alice")
    await service.post("alice")
    page = await service.page("bob")
    assert not (await service.stats("bob")).live
    await service.post("alice")
    fresh_token = await (await service.subscribe("bob", page.resume_token)).read_expired_token()
    stream = await service.subscribe("bob", fresh_token)
    activity_id = await service.post("alice")
    assert await stream.read_event() == ("added", activity_id)


async def test_heartbeat_carries_a_resume_token(serve: Serve) -> None:
    """Pitfall: a quiet stream sends no heartbeat, so that it looks dead to its client."""
    service = await serve(checkpoint_seconds=0.05)
    stream = await service.subscribe("bob")
    message = await stream.read_message()
    assert message.HasField("heartbeat")
    assert message.resume_token
    activity_id = await service.post("bob")
    resumed = await service.subscribe("bob", message.resume_token)
    assert await resumed.read_event() == ("added", activity_id)


async def test_slow_consumer_gets_all_events_and_delays_no_other(serve: Serve) -> None:
    """Pitfall: a slow consumer is cut, fills the server's memory or holds up other consumers."""
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, limits=Limits(log_cap=5_000))
    await service.follow("bob", "alice")
    slow, quick = await service.subscribe("bob"), await service.subscribe("bob")
    posted: list[str] = []
    for _ in range(ACTIVITY_COUNT // 250):
        batch_ids = await service.post_many("alice", 250, content=CONTENT)
        assert sorted([await quick.read_event() for _ in batch_ids]) == [
            ("added", activity_id) for activity_id in batch_ids
        ]
        posted += batch_ids
    slow_events = await slow.read_events(ACTIVITY_COUNT)
    assert sorted(slow_events) == [("added", activity_id) for activity_id in posted]
    assert len(set(slow_events)) == ACTIVITY_COUNT


async def test_slow_consumer_that_falls_behind_the_log_gets_a_fresh_token(serve: Serve) -> None:
    """Pitfall: a consumer that falls behind a bounded log skips events in silence."""
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, limits=Limits(log_cap=10))
    await service.follow("bob", "alice")
    slow = await service.subscribe("bob")
    for _ in range(ACTIVITY_COUNT // 250):
        await service.post_many("alice", 250, content=CONTENT)
    await slow.read_expired_token()
    fresh_token = await (await service.subscribe("bob", slow.token)).read_expired_token()
    last_id = await service.post("alice")
    assert await (await service.subscribe("bob", fresh_token)).read_event() == ("added", last_id)


@pytest.mark.every_store
async def test_added_never_arrives_after_removed(serve: Serve) -> None:
    """Pitfall: a delete overtakes the add of its activity, which clients then show for good."""
    server_a = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    server_b = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    await server_a.follow("bob", "alice")
    stream = await server_a.subscribe("bob")
    for number in range(30):
        activity_id = await server_a.post("alice", request_id=f"r{number}")
        await asyncio.gather(
            server_b.publish("alice", request_id=f"r{number}"),
            server_a.delete(activity_id, "alice"),
            server_b.publish("alice", request_id=f"r{number}"),
        )
        events = await stream.read_until(("removed", activity_id))
        assert events in (
            [("removed", activity_id)],
            [("added", activity_id), ("removed", activity_id)],
        )
    last_id = await server_a.post("alice")
    assert await stream.read_event() == ("added", last_id)


async def test_new_log_does_not_announce_what_the_feed_holds_already(service: Service) -> None:
    """Pitfall: a late delivery of an activity that the feed holds already arrives as news."""
    await service.follow("bob", "alice")
    await service.warm("bob")
    await service.post("alice", request_id="r")
    stream = await service.subscribe("bob")
    await service.publish("alice", request_id="r")
    last_id = await service.post("alice")
    assert await stream.read_event() == ("added", last_id)


async def test_stream_with_a_damaged_resume_token_is_refused(service: Service) -> None:
    """Pitfall: a stream with a damaged token begins all the same, at another position."""
    damaged_token = (await service.page("bob")).resume_token[:-1]
    call = service.subscriptions.SubscribeFeed(
        SubscribeFeedRequest(user="bob", resume_token=damaged_token)
    )
    assert (await call.code()).name == "INVALID_ARGUMENT"
    assert not (await service.stats("bob")).live


@pytest.mark.every_store
async def test_resumed_stream_does_not_show_posts_of_an_author_unfollowed_since(
    service: Service,
) -> None:
    """Pitfall: a stream that reads its log late shows posts of an author who was unfollowed since.

    The log holds the delivery before the unfollow.
    """
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    token = stream.token
    await stream.close()
    await service.post("alice")
    await service.unfollow("bob", "alice")
    resumed = await service.subscribe("bob", token)
    assert await resumed.read_until(("unfollowed", "alice")) == [("unfollowed", "alice")]
    await resumed.close()
