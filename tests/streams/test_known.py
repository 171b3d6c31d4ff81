"""Mistakes that streams of feed systems have made, provoked one by one."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from activityfeed.v1.subscription_service_pb2 import (
    AddFeedSubscription,
    SubscribeFeedsRequest,
    SubscribeFeedsResponse,
)

from feedsvc.core import keys
from feedsvc.core import streams as streams_module
from feedsvc.core.live import MOST_A_TURN, Live
from feedsvc.failed_calls import Call
from feedsvc.services.feed_multiplexer import FeedMultiplexer
from feedsvc.services.feed_pages import FeedQuery
from feedsvc.services.message_writer import MessageWriter
from feedsvc.tokens import Tokens
from tests.harness.proxy import RandomProxy
from tests.serving import Serve, Service, Stream, events_of, read_until_refused, wait_until
from tests.stores import Store

#: Seconds between checkpoints, at which a stream reads its log unasked: none comes in a test.
NO_CHECKPOINTS = 300
#: Users who follow one author and have a stream open.
FANS = 100
#: Events that each user receives: three reads of a log.
EVENTS = 250
#: Most seconds that the slow server waits for a reply of the store.
MAX_DELAY = 0.03


@asynccontextmanager
async def start_slow_server(
    store: Store, tmp_path: Path, checkpoint_seconds: float
) -> AsyncIterator[Service]:
    """Start a server that gets all replies of its store late, and in no certain order."""
    proxy = RandomProxy(Path(store.url.removeprefix("unix://")), random.Random(1))
    await proxy.listen_on_socket(tmp_path / "proxy")
    url = f"unix://{tmp_path}/proxy"
    service = await Service.start(url, checkpoint_seconds=checkpoint_seconds)
    proxy.max_delay = MAX_DELAY
    try:
        yield service
    finally:
        proxy.max_delay = 0.0
        await service.stop()
        await proxy.stop()


@pytest.fixture
async def slow(store: Store, tmp_path: Path) -> AsyncIterator[Service]:
    async with start_slow_server(store, tmp_path, NO_CHECKPOINTS) as service:
        yield service


async def test_stream_receives_what_happens_during_its_first_read(
    slow: Service, serve: Serve
) -> None:
    """The wake-up of an entry may come before the answer of a read that did not see the entry."""
    quick = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    for number in range(15):
        stream = await slow.subscribe(f"u{number}")
        posted = await quick.post(f"u{number}")
        assert await stream.read_event() == ("added", posted)
        await stream.close()


async def test_stream_receives_what_happens_while_its_token_is_resumed(
    slow: Service, serve: Serve
) -> None:
    quick = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    stream = await quick.subscribe("bob")
    for _ in range(15):
        resuming = await slow.subscribe("bob", stream.token)
        posted = await quick.post("bob")
        assert await stream.read_event() == ("added", posted)
        assert await resuming.read_event() == ("added", posted)
        await resuming.close()


async def test_checkpoint_waits_for_the_entries_of_the_log(
    store: Store, serve: Serve, tmp_path: Path
) -> None:
    """A checkpoint says that nothing has happened, so the entries of the log come first."""
    quick = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    stream = await quick.subscribe("bob")
    await quick.post("bob")
    async with start_slow_server(store, tmp_path, MAX_DELAY / 3) as slow:
        for _ in range(15):
            resumed = await slow.subscribe("bob", stream.token)
            assert (await resumed.read_message()).HasField("started")
            assert (await resumed.read_message()).HasField("events")
            await resumed.close()


async def test_resumed_stream_does_not_add_a_deleted_activity(serve: Serve) -> None:
    """A server that keeps the deleted activity in memory does not add it either."""
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    stream = await service.subscribe("bob")
    token = stream.token
    kept, deleted = await service.post("bob"), await service.post("bob")
    assert await stream.read_events(2) == [("added", kept), ("added", deleted)]
    await service.delete(deleted, "bob")
    assert await stream.read_event() == ("removed", deleted)
    resumed = await service.subscribe("bob", token)
    assert await resumed.read_events(2) == [("added", kept), ("removed", deleted)]


async def test_log_whose_lease_ran_out_is_not_resumed(serve: Serve) -> None:
    """No entry was announced in it since, although the log may still exist."""
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    stream = await service.subscribe("bob")
    token = stream.token
    await service.post("bob")
    await stream.close()
    await service.store.zadd(keys.live(service.tag("bob")), {"bob": 1})
    await service.post("bob")
    fresh = await (await service.subscribe("bob", token)).read_expired_token()
    resumed = await service.subscribe("bob", fresh)
    posted = await service.post("bob")
    assert await resumed.read_event() == ("added", posted)


async def test_streams_at_different_positions_receive_what_follows_theirs(serve: Serve) -> None:
    """The streams read one log together, and each from its own position."""
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    stream = await service.subscribe("bob")
    tokens, posted = [stream.token], []
    for _ in range(10):
        posted.append(await service.post("bob"))
        assert await stream.read_event() == ("added", posted[-1])
        tokens.append(stream.token)
    resumed = await asyncio.gather(*(service.subscribe("bob", token) for token in tokens[:-1]))
    received = await asyncio.gather(*map(Stream.read_events, resumed, range(10, 0, -1)))
    assert received == [
        [("added", activity_id) for activity_id in posted[position:]] for position in range(10)
    ]


async def test_stopping_server_sends_a_checkpoint_last(serve: Serve) -> None:
    """The checkpoint says where the stream stands, although nothing has happened."""
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    stream = await service.subscribe("bob")
    created = stream.token
    service.server.engine.live.drain(0.1)
    last = await stream.read_message()
    assert last.HasField("heartbeat")
    assert last.resume_token == created
    assert (await read_until_refused(stream)).reason == "DRAINING"


async def test_resumed_stream_leaves_out_only_unfollowed_sources(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    for source in ("alice", "eve"):
        await service.follow("bob", source)
    stream = await service.subscribe("bob")
    token = stream.token
    left_out, kept = await service.post("eve"), await service.post("alice")
    assert await stream.read_events(2) == [("added", left_out), ("added", kept)]
    await service.unfollow("bob", "eve")
    resumed = await service.subscribe("bob", token)
    assert await resumed.read_until(("unfollowed", "eve")) == [
        ("added", kept),
        ("unfollowed", "eve"),
    ]


class SlowClient:
    """The handler's view of a client that takes a message only when the test says so."""

    def __init__(self) -> None:
        self.written: list[SubscribeFeedsResponse] = []
        self._taken = asyncio.Semaphore(0)

    async def send_initial_metadata(self, _: object) -> None:
        pass

    async def write(self, message: bytes) -> None:
        response = SubscribeFeedsResponse.FromString(message)
        if response.HasField("started"):
            return
        self.written.append(response)
        await self._taken.acquire()

    def take(self) -> None:
        self._taken.release()


async def test_token_of_a_message_stands_for_its_last_event(serve: Serve) -> None:
    """It does not stand for how far the log was read: a resumed stream would skip the difference.

    While the message of one user is being written, the log of another is read twice.
    """
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    engine, users = service.server.engine, ("a", "b", "c")
    tokens = Tokens(engine.store.secret)
    first_tokens = {}
    for user in users:
        stream = await service.subscribe(user)
        first_tokens[user] = stream.token
        await stream.close()
    await wait_until(lambda: _is(not engine.live.streams))
    posted = {user: await service.post_many(user, EVENTS) for user in users}
    client, queue = SlowClient(), asyncio.Queue[SubscribeFeedsRequest]()

    async def requests() -> AsyncIterator[SubscribeFeedsRequest]:
        while True:
            yield await queue.get()

    async def add(user: str) -> Any:
        """Add a user; return the cursor, whose log is being read."""
        add = AddFeedSubscription(subscription_id=user, user=user, resume_token=first_tokens[user])
        queue.put_nowait(SubscribeFeedsRequest(add=add))
        await wait_until(lambda: _is(any(cursor.tag.id == user for cursor in followed.cursors)))
        (cursor,) = (cursor for cursor in followed.cursors if cursor.tag.id == user)
        return cursor

    with engine.live.stream() as followed:
        config = service.server.config
        writer = MessageWriter(followed, client, config)
        call = Call("SubscribeFeeds", client)
        async with FeedMultiplexer(
            engine, tokens, followed, writer, max_subscriptions=10, call=call
        ) as multiplexer:
            hold_back_first_read(engine.live)
            running = asyncio.create_task(multiplexer.run(requests()))
            followed.task = running
            await add("a")
            others = [await add("b"), await add("c")]
            # Their first reads end while a's message is being written, their second while b's is.
            await wait_until(lambda: _is(len(client.written) == 1))
            await wait_until(
                lambda: _is(all(int(cursor.position.split("-")[0]) > 100 for cursor in others))
            )
            client.take()
            await wait_until(lambda: _is(len(client.written) == 2))
            await wait_until(
                lambda: _is(all(int(cursor.position.split("-")[0]) > 200 for cursor in others))
            )
            while sum(len(message.events.events) for message in client.written) < 3 * EVENTS:
                client.take()
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])
    received: dict[str, list[str]] = {user: [] for user in users}
    for message in client.written:
        user = message.subscription_id
        received[user] += [activity_id for _, activity_id in events_of(message)]
        scope = FeedQuery(user, "", "flat").resume_scope
        (position,) = tokens.read_log_positions(message.resume_token, 1, *scope)
        # The first entry of a log says that the log began.
        assert int(position.split("-")[0]) == 1 + len(received[user])
    assert received == posted


async def _is(value: bool) -> bool:
    return value


def hold_back_first_read(live: Live) -> None:
    """Hold back the answer of the first read of a log until two other reads wait."""
    read_many = live._logs.read_many

    async def read_once(wanted: Any) -> Any:
        answer = await read_many(wanted)
        await wait_until(lambda: _is(len(live._wanted) == 2))
        live._logs.read_many = read_many  # type: ignore[method-assign]
        return answer

    live._logs.read_many = read_once  # type: ignore[method-assign]


async def test_one_turn_of_the_loop_serves_few_streams(serve: Serve) -> None:
    """Other calls are served in between, however many streams an activity goes to."""
    service = await serve(checkpoint_seconds=NO_CHECKPOINTS)
    users = [f"u{number}" for number in range(FANS)]
    await service.follow_all([(user, "alice") for user in users])
    streams = [await service.subscribe(user) for user in users]
    loop, turn, served_streams = asyncio.get_running_loop(), 0, Counter[int]()

    def count_turns() -> None:
        nonlocal turn, next_turn
        turn += 1
        next_turn = loop.call_soon(count_turns)

    next_turn = loop.call_soon(count_turns)
    take = streams_module.Stream.take

    def counted(self: Any, cursor: Any, result: Any, *, has_more: bool) -> None:
        served_streams[turn] += 1
        take(self, cursor, result, has_more=has_more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams_module.Stream, "take", counted)
        posted = await service.post("alice")
        for stream in streams:
            assert await stream.read_event() == ("added", posted)
    next_turn.cancel()
    assert served_streams.total() >= FANS
    # This counter may see the end of a slice and the begin of the next in one turn.
    assert max(served_streams.values()) <= 2 * MOST_A_TURN < FANS
