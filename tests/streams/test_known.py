"""What streams got wrong somewhere, made to happen."""

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
from feedsvc.core.live import TOLD_A_TURN, Live
from feedsvc.services.feed_multiplexer import FeedMultiplexer
from feedsvc.services.feed_pages import FeedQuery
from feedsvc.services.message_writer import MessageWriter
from feedsvc.tokens import Tokens
from tests.harness.proxy import RandomProxy
from tests.serving import Serve, Service, Stream, events_of, read_until_refused, wait_until
from tests.stores import Store

#: Checkpoints, at which a stream reads its log unasked, do not come while a test runs.
QUIET = 300
#: Users who follow one author, all of them live.
FANS = 100
#: Events that a user is to be told: three reads of a log.
EVENTS = 250
#: Seconds that the slow server waits for a reply of the store, at the most.
SLOW = 0.03


@asynccontextmanager
async def slowly(store: Store, tmp_path: Path, checkpoint_seconds: float) -> AsyncIterator[Service]:
    """A server that hears everything from its store late, and in no certain order."""
    proxy = RandomProxy(Path(store.url.removeprefix("unix://")), random.Random(1))
    await proxy.listen_on_socket(tmp_path / "proxy")
    url = f"unix://{tmp_path}/proxy"
    service = await Service.start(url, checkpoint_seconds=checkpoint_seconds)
    proxy.max_delay = SLOW
    try:
        yield service
    finally:
        proxy.max_delay = 0.0
        await service.stop()
        await proxy.stop()


@pytest.fixture
async def slow(store: Store, tmp_path: Path) -> AsyncIterator[Service]:
    async with slowly(store, tmp_path, QUIET) as service:
        yield service


async def test_what_happens_while_the_log_is_read_first(slow: Service, serve: Serve) -> None:
    """Its wake-up may come before the answer of a read that did not see it."""
    quick = await serve(checkpoint_seconds=QUIET)
    for number in range(15):
        stream = await slow.subscribe(f"u{number}")
        posted = await quick.post(f"u{number}")
        assert await stream.read_event() == ("added", posted)
        await stream.close()


async def test_what_happens_while_a_token_is_resumed(slow: Service, serve: Serve) -> None:
    quick = await serve(checkpoint_seconds=QUIET)
    stream = await quick.subscribe("bob")
    for _ in range(15):
        resuming = await slow.subscribe("bob", stream.token)
        posted = await quick.post("bob")
        assert await stream.read_event() == ("added", posted)
        assert await resuming.read_event() == ("added", posted)
        await resuming.close()


async def test_checkpoint_while_the_log_is_read(store: Store, serve: Serve, tmp_path: Path) -> None:
    """It says that nothing has happened, and so waits for what the log holds."""
    quick = await serve(checkpoint_seconds=QUIET)
    stream = await quick.subscribe("bob")
    await quick.post("bob")
    async with slowly(store, tmp_path, SLOW / 3) as slow:
        for _ in range(15):
            resumed = await slow.subscribe("bob", stream.token)
            assert (await resumed.read_message()).HasField("started")
            assert (await resumed.read_message()).HasField("events")
            await resumed.close()


async def test_resumed_behind_a_deletion(serve: Serve) -> None:
    """What was told before it was deleted is not told again, whatever the server has kept."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    token = stream.token
    kept, gone = await service.post("bob"), await service.post("bob")
    assert await stream.read_events(2) == [("added", kept), ("added", gone)]
    await service.delete(gone, "bob")
    assert await stream.read_event() == ("removed", gone)
    resumed = await service.subscribe("bob", token)
    assert await resumed.read_events(2) == [("added", kept), ("removed", gone)]


async def test_log_whose_lease_ran_out(serve: Serve) -> None:
    """Nobody wrote it from then on: it is not resumed, though it may be there still."""
    service = await serve(checkpoint_seconds=QUIET)
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


async def test_two_places_in_one_log(serve: Serve) -> None:
    """Each stream is told what comes after its own place, though they ask together."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    tokens, posted = [stream.token], []
    for _ in range(10):
        posted.append(await service.post("bob"))
        assert await stream.read_event() == ("added", posted[-1])
        tokens.append(stream.token)
    resumed = await asyncio.gather(*(service.subscribe("bob", token) for token in tokens[:-1]))
    told = await asyncio.gather(*map(_told, resumed, range(10, 0, -1)))
    assert told == [[("added", one) for one in posted[place:]] for place in range(10)]


async def _told(stream: Stream, count: int) -> list[tuple[str, str]]:
    return await stream.read_events(count)


async def test_last_message_of_a_stopping_server(serve: Serve) -> None:
    """It says where the stream was, although nothing has happened."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    created = stream.token
    service.server.engine.live.drain(0.1)
    last = await stream.read_message()
    assert (last.HasField("heartbeat"), last.resume_token) == (True, created)
    assert (await read_until_refused(stream)).reason == "DRAINING"


async def test_followed_by_two_routes_and_unfollowed(serve: Serve) -> None:
    """What came by a source that is gone is left out, and nothing else."""
    service = await serve(checkpoint_seconds=QUIET)
    for source in ("alice", "eve"):
        await service.follow("bob", source)
    stream = await service.subscribe("bob")
    token = stream.token
    gone, kept = await service.post("eve"), await service.post("alice")
    assert await stream.read_events(2) == [("added", gone), ("added", kept)]
    await service.unfollow("bob", "eve")
    resumed = await service.subscribe("bob", token)
    assert await resumed.read_until(("unfollowed", "eve")) == [
        ("added", kept),
        ("unfollowed", "eve"),
    ]


class SlowClient:
    """What a handler sees of a client that takes a message when it is told to."""

    def __init__(self) -> None:
        self.written: list[SubscribeFeedsResponse] = []
        self._takes = asyncio.Semaphore(0)

    async def send_initial_metadata(self, _: object) -> None:
        pass

    async def write(self, message: bytes) -> None:
        response = SubscribeFeedsResponse.FromString(message)
        if response.HasField("started"):
            return
        self.written.append(response)
        await self._takes.acquire()

    def take(self) -> None:
        self._takes.release()


async def test_token_of_a_message_is_that_of_its_last_event(serve: Serve) -> None:
    """Not how far the log has been read meanwhile: whoever resumes with it would miss the rest.

    While the message of one user is written, the log of another is read twice.
    """
    service = await serve(checkpoint_seconds=QUIET)
    engine, users = service.server.engine, ("a", "b", "c")
    tokens = Tokens(engine.store.secret)
    begun = {}
    for user in users:
        stream = await service.subscribe(user)
        begun[user] = stream.token
        await stream.close()
    await wait_until(lambda: _true(not engine.live.streams))
    posted = {user: await service.post_many(user, EVENTS) for user in users}
    client, asks = SlowClient(), asyncio.Queue[SubscribeFeedsRequest]()

    async def requests() -> AsyncIterator[SubscribeFeedsRequest]:
        while True:
            yield await asks.get()

    async def add(user: str) -> Any:
        """Adds a user; its reader, whose log is being read."""
        add = AddFeedSubscription(subscription_id=user, user=user, resume_token=begun[user])
        asks.put_nowait(SubscribeFeedsRequest(add=add))
        await wait_until(lambda: _true(any(one.tag.id == user for one in followed.readers)))
        (reader,) = (one for one in followed.readers if one.tag.id == user)
        return reader

    with engine.live.stream() as followed:
        config = service.server.config
        writer = MessageWriter(followed, client, config)
        async with FeedMultiplexer(engine, tokens, followed, writer, 10) as multiplexer:
            await held_back(engine.live)
            running = asyncio.create_task(multiplexer.run(requests()))
            followed.task = running
            await add("a")
            others = [await add("b"), await add("c")]
            # Their first reads end while a's message is on its way, their second while b's is.
            await wait_until(lambda: _true(len(client.written) == 1))
            await wait_until(lambda: _true(all(int(r.place.split("-")[0]) > 100 for r in others)))
            client.take()
            await wait_until(lambda: _true(len(client.written) == 2))
            await wait_until(lambda: _true(all(int(r.place.split("-")[0]) > 200 for r in others)))
            while sum(len(message.events.events) for message in client.written) < 3 * EVENTS:
                client.take()
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])
    told: dict[str, list[str]] = {user: [] for user in users}
    for message in client.written:
        name = message.subscription_id
        told[name] += [what for _, what in events_of(message)]
        bound = FeedQuery(name, "", "flat").resume_scope
        (place,) = tokens.read_log_positions(message.resume_token, 1, *bound)
        # The log's first entry says that it began.
        assert int(place.split("-")[0]) == 1 + len(told[name])
    assert told == posted


async def _true(what: bool) -> bool:
    return what


async def held_back(live: Live) -> None:
    """Has the first read of a log answered only when others wait for theirs."""
    reads = live._logs.read_many

    async def first(wanted: Any) -> Any:
        found = await reads(wanted)
        await wait_until(lambda: _true(len(live._wanted) == 2))
        live._logs.read_many = reads  # type: ignore[method-assign]
        return found

    live._logs.read_many = first  # type: ignore[method-assign]


async def test_few_streams_are_told_in_one_turn(serve: Serve) -> None:
    """However many an activity is for: between two turns of the loop other calls are served."""
    service = await serve(checkpoint_seconds=QUIET)
    users = [f"u{number}" for number in range(FANS)]
    await service.follow_all([(user, "alice") for user in users])
    streams = [await service.subscribe(user) for user in users]
    loop, turn, told = asyncio.get_running_loop(), 0, Counter[int]()

    def count_turns() -> None:
        nonlocal turn, next_turn
        turn += 1
        next_turn = loop.call_soon(count_turns)

    next_turn = loop.call_soon(count_turns)
    tell = streams_module.Stream.tell

    def counted(self: Any, reader: Any, found: Any, *, more: bool) -> None:
        told[turn] += 1
        tell(self, reader, found, more=more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams_module.Stream, "tell", counted)
        posted = await service.post("alice")
        for stream in streams:
            assert await stream.read_event() == ("added", posted)
    next_turn.cancel()
    assert told.total() >= FANS
    # A slice may end and the next begin within the same turn as this counter sees it.
    assert max(told.values()) <= 2 * TOLD_A_TURN < FANS
