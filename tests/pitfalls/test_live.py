"""Mistakes that live feeds make."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest

from feedsvc.config import Limits
from feedsvc.core import keys
from tests.serving import Serve, Service, ids_of, until

#: Checkpoints, at which a stream reads its log unasked, do not come while a test runs.
QUIET = 300
#: Activities that are too much for what gRPC keeps of a stream that is not read: 12 MB.
MANY, LONG = 1_500, "x" * 8_192


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=QUIET)


def log_key(service: Service, user: str) -> str:
    return f"{service.tag(user)}l:{user}"


async def listening(service: Service) -> bool:
    """Whether the server listens for wake-ups."""
    found = await service.store.pubsub_numsub(keys.wake(service.tag("bob")))
    return bool(found[0][1])


async def connections(service: Service) -> int:
    return len(await service.store.client_list())


@pytest.mark.every_store
async def test_nothing_ever_publishes_to_the_channel(serve: Serve) -> None:
    """Published on another process, so that the store's channel is the only way."""
    here, there = await serve(checkpoint_seconds=QUIET), await serve(checkpoint_seconds=QUIET)
    await here.follow("bob", "alice")
    stream = await here.subscribe("bob")
    posted = ""
    for _ in range(20):
        posted = await there.post("alice")
        assert await stream.event() == ("added", posted)
    await there.delete(posted, "alice")
    assert await stream.event() == ("removed", posted)
    own = await there.post("bob")
    assert await stream.event() == ("added", own)
    addressed = await there.post("carol", to=["bob"])
    assert await stream.event() == ("added", addressed)


@pytest.mark.every_store
async def test_all_arrives_twice(service: Service) -> None:
    """By as many routes, retries and tabs as there may be."""
    for source in ("alice", "repo:x", "topic:y"):
        await service.follow("bob", source)
    tabs = [await service.subscribe("bob") for _ in range(5)]
    expected = []
    posted = ""
    for number in range(20):
        request = f"r{number}"
        posted = await service.post("alice", to=["repo:x", "topic:y"], request_id=request)
        await service.post("alice", to=["repo:x", "topic:y"], request_id=request)
        expected.append(("added", posted))
    await service.delete(posted, "alice", request_id="d")
    await service.delete(posted, "alice", request_id="d")
    expected.append(("removed", posted))
    last = await service.post("bob")
    for tab in tabs:
        assert await tab.until(("added", last)) == [*expected, ("added", last)]


async def test_connection_and_thread_for_each_subscriber(service: Service) -> None:
    await service.follow("bob", "alice")
    await (await service.subscribe("bob")).close()
    before = await connections(service), threading.active_count()
    streams = [await service.subscribe(f"u{number}") for number in range(100)]
    streams += [await service.subscribe("bob") for _ in range(100)]
    assert (await connections(service), threading.active_count()) == before
    posted = await service.post("alice")
    for stream in streams[100:]:
        assert await stream.event() == ("added", posted)


async def test_subscribers_are_never_closed(service: Service) -> None:
    waiting = service.server.engine.live._cursors
    streams = [await service.subscribe(f"u{number % 7}") for number in range(70)]
    assert len(waiting) == 7
    for stream in streams:
        await stream.close()

    async def none_left() -> bool:
        return not waiting

    await until(none_left)


@pytest.mark.every_store
async def test_followees_are_read_once(service: Service) -> None:
    """Later follows count, and whoever was unfollowed is not heard again."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    await service.follow("bob", "carol")
    assert await stream.event() == ("followed", "carol")
    posted = await service.post("carol")
    assert await stream.event() == ("added", posted)
    await service.unfollow("bob", "alice")
    assert await stream.event() == ("unfollowed", "alice")
    await service.post("alice")
    last = await service.post("carol")
    assert await stream.event() == ("added", last)


@pytest.mark.every_store
async def test_pubsub_connection_lost_events_are_gone(service: Service) -> None:
    """What happens while nobody listens is told, and what happens after it is told as well."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    for _ in range(5):
        await until(lambda: listening(service))
        assert await service.store.client_kill_filter(_type="pubsub") >= 1
        posting = asyncio.create_task(service.posts("alice", 3))
        while not posting.done():  # who listens again meanwhile does not hear it either
            await service.store.client_kill_filter(_type="pubsub")
        gap = await posting
        assert await stream.events(3) == [("added", one) for one in gap]
        await until(lambda: listening(service))
        after = await service.post("alice")
        assert await stream.event() == ("added", after)


@pytest.mark.every_store
async def test_all_connections_lost_events_are_gone(serve: Serve) -> None:
    here, there = await serve(checkpoint_seconds=QUIET), await serve(checkpoint_seconds=QUIET)
    await here.follow("bob", "alice")
    stream = await here.subscribe("bob")
    for number in range(5):
        for kind in ("pubsub", "normal"):
            await here.store.client_kill_filter(_type=kind, skipme=True)
        posted = await there.post("alice", request_id=f"r{number}")
        assert await stream.event() == ("added", posted)


@pytest.mark.every_store
async def test_stream_resumed_after_a_server_restart(serve: Serve) -> None:
    first = await serve(checkpoint_seconds=QUIET)
    await first.follow("bob", "alice")
    stream = await first.subscribe("bob")
    for _ in range(3):
        posted = await first.post("alice")
        assert await stream.event() == ("added", posted)
    missed = await first.posts("alice", 2)
    token = stream.token
    await first.stop()
    second = await serve(checkpoint_seconds=QUIET)
    missed.append(await second.post("alice"))
    resumed = await second.subscribe("bob", token)
    assert await resumed.events(3) == [("added", one) for one in missed]


@pytest.mark.every_store
async def test_every_token_resumes_without_gap_or_repeat(serve: Serve) -> None:
    """From each message of a stream, on another process: exactly what came after it."""
    here, there = await serve(checkpoint_seconds=QUIET), await serve(checkpoint_seconds=QUIET)
    await here.follow("bob", "alice")
    stream = await here.subscribe("bob")
    start = stream.token
    expected, tokens = [], [start]
    for number in range(12):
        if number % 4 == 3:
            await here.follow("bob", f"a{number}")
            expected.append(("followed", f"a{number}"))
        else:
            expected.append(("added", await here.post("alice")))
        assert await stream.event() == expected[-1]
        tokens.append(stream.token)
    assert len(set(tokens)) == len(tokens)
    for place, token in enumerate(tokens):
        resumed = await there.subscribe("bob", token)
        assert await resumed.events(len(expected) - place) == expected[place:]
        last = await here.post("alice")
        assert await resumed.event() == ("added", last)
        expected.append(("added", last))
        await resumed.close()


async def broken_logs(service: Service, token: str) -> AsyncIterator[str]:
    """Each way in which a log can lack what a token knows; yields when it does."""
    log = log_key(service, "bob")
    await service.store.xtrim(log, maxlen=1, approximate=False)
    yield "trimmed"
    await service.store.delete(log)
    yield "expired"
    await service.store.delete(log, keys.live(service.tag("bob")))
    await (await service.subscribe("bob")).close()
    await service.posts("alice", 10)
    yield "made anew, and grown beyond the place"
    await service.store.zadd(keys.live(service.tag("bob")), {"bob": 1})
    yield "lease run out"


@pytest.mark.every_store
async def test_token_older_than_the_log_skips_in_silence(service: Service) -> None:
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    token = stream.token
    for _ in range(4):
        posted = await service.post("alice")
        assert await stream.event() == ("added", posted)
    await stream.close()
    ways = 0
    async for _ in broken_logs(service, token):
        fresh = await (await service.subscribe("bob", token)).expired()
        # And it goes on from there.
        resumed = await service.subscribe("bob", fresh)
        posted = await service.post("alice")
        assert await resumed.event() == ("added", posted)
        again = await service.subscribe("bob", resumed.token)
        last = await service.post("alice")
        assert await again.event() == ("added", last)
        await again.close()
        await resumed.close()
        ways += 1
    assert ways == 4


@pytest.mark.every_store
async def test_log_that_lost_its_tail_looks_continuous(service: Service) -> None:
    """A store that restarts without its last writes numbers other events the same."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    log = log_key(service, "bob")
    old = await service.store.dump(log)
    assert old is not None
    lost = await service.post("alice")
    assert await stream.event() == ("added", lost)
    token = stream.token
    await stream.close()
    await service.store.restore(log, 0, old, replace=True)
    others = await service.posts("alice", 3)
    await (await service.subscribe("bob", token)).expired()
    assert set(others) <= set(await service.feed("bob"))


@pytest.mark.every_store
async def test_page_and_stream_leave_a_gap(service: Service) -> None:
    """A page that had the log begun loses nothing until the stream is opened."""
    await service.follow("bob", "alice")
    before = await service.posts("alice", 3)
    page = await service.page("bob", resumable=True)
    assert ids_of(page) == before[::-1]
    gap = await service.posts("alice", 3)
    await service.delete(before[0], "alice")
    stream = await service.subscribe("bob", page.resume_token)
    assert await stream.events(4) == [*(("added", one) for one in gap), ("removed", before[0])]


@pytest.mark.every_store
async def test_page_without_a_log_resumes_in_silence(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.post("alice")
    page = await service.page("bob")
    assert not (await service.stats("bob")).live
    await service.post("alice")
    fresh = await (await service.subscribe("bob", page.resume_token)).expired()
    stream = await service.subscribe("bob", fresh)
    posted = await service.post("alice")
    assert await stream.event() == ("added", posted)


async def test_no_heartbeat(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=0.05)
    stream = await service.subscribe("bob")
    message = await stream.message()
    assert message.HasField("heartbeat")
    assert message.resume_token
    posted = await service.post("bob")
    resumed = await service.subscribe("bob", message.resume_token)
    assert await resumed.event() == ("added", posted)


async def test_slow_consumer_is_cut(serve: Serve) -> None:
    """Nor does it hold anybody up: others get all while it reads nothing, and then it gets all."""
    service = await serve(checkpoint_seconds=QUIET, limits=Limits(log_cap=5_000))
    await service.follow("bob", "alice")
    slow, quick = await service.subscribe("bob"), await service.subscribe("bob")
    posted: list[str] = []
    for _ in range(MANY // 250):
        some = await service.posts("alice", 250, content=LONG)
        assert sorted([await quick.event() for _ in some]) == [("added", one) for one in some]
        posted += some
    found = await slow.events(MANY)
    assert sorted(found) == [("added", one) for one in posted]
    assert len(set(found)) == MANY


async def test_slow_consumer_beyond_the_log_is_left_out_in_silence(serve: Serve) -> None:
    """The log is bounded: who falls behind it is told so."""
    service = await serve(checkpoint_seconds=QUIET, limits=Limits(log_cap=10))
    await service.follow("bob", "alice")
    slow = await service.subscribe("bob")
    for _ in range(MANY // 250):
        await service.posts("alice", 250, content=LONG)
    await slow.expired()
    fresh = await (await service.subscribe("bob", slow.token)).expired()
    last = await service.post("alice")
    assert await (await service.subscribe("bob", fresh)).event() == ("added", last)


@pytest.mark.every_store
async def test_removed_before_it_was_added(serve: Serve) -> None:
    """An add that was overtaken by its delete is not told after it."""
    here, there = await serve(checkpoint_seconds=QUIET), await serve(checkpoint_seconds=QUIET)
    await here.follow("bob", "alice")
    stream = await here.subscribe("bob")
    for number in range(30):
        posted = await here.post("alice", request_id=f"r{number}")
        await asyncio.gather(
            there.publish("alice", request_id=f"r{number}"),
            here.delete(posted, "alice"),
            there.publish("alice", request_id=f"r{number}"),
        )
        found = await stream.until(("removed", posted))
        assert found in ([("removed", posted)], [("added", posted), ("removed", posted)])
    last = await here.post("alice")
    assert await stream.event() == ("added", last)


async def test_log_that_begins_tells_what_the_feed_has_already(service: Service) -> None:
    """A log that begins knows what the feed holds: a late delivery of it is no news."""
    await service.follow("bob", "alice")
    await service.warm("bob")
    await service.post("alice", request_id="r")
    stream = await service.subscribe("bob")
    await service.publish("alice", request_id="r")
    last = await service.post("alice")
    assert await stream.event() == ("added", last)


async def test_stream_of_a_bad_token_begins_anyway(service: Service) -> None:
    damaged = (await service.page("bob")).resume_token[:-1]
    call = service.subscriptions.SubscribeFeed(
        SubscribeFeedRequest(user="bob", resume_token=damaged)
    )
    assert (await call.code()).name == "INVALID_ARGUMENT"
    assert not (await service.stats("bob")).live


@pytest.mark.every_store
async def test_what_was_unfollowed_meanwhile_is_not_told(service: Service) -> None:
    """The log has the delivery before the unfollow; whoever reads it afterwards sees no ghost."""
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    token = stream.token
    await stream.close()
    await service.post("alice")
    await service.unfollow("bob", "alice")
    resumed = await service.subscribe("bob", token)
    assert await resumed.until(("unfollowed", "alice")) == [("unfollowed", "alice")]
    await resumed.close()
