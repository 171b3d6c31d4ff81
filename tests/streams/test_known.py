"""What streams got wrong somewhere, made to happen."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest, SubscribeFeedsRequest

from feedsvc.core import keys
from feedsvc.services.items import resume_bound
from feedsvc.tokens import Tokens
from tests.faults.proxy import Proxy
from tests.serving import Serve, Service, Stream, end_of
from tests.stores import Store

#: Checkpoints, at which a stream reads its log unasked, do not come while a test runs.
QUIET = 300
#: Users of one stream, and events that each of them is to be told.
USERS, EVENTS = 16, 300
#: Seconds that the slow server waits for a reply of the store, at the most.
SLOW = 0.03


@asynccontextmanager
async def slowly(store: Store, tmp_path: Path, checkpoint_seconds: float) -> AsyncIterator[Service]:
    """A server that hears everything from its store late, and in no certain order."""
    proxy = Proxy(tmp_path / "proxy", Path(store.url.removeprefix("unix://")), random.Random(1))
    await proxy.start()
    url = f"unix://{tmp_path}/proxy"
    service = await Service.start(url, checkpoint_seconds=checkpoint_seconds)
    proxy.delay = SLOW
    try:
        yield service
    finally:
        proxy.delay = 0.0
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
        assert await stream.event() == ("added", posted)
        await stream.close()


async def test_what_happens_while_a_token_is_resumed(slow: Service, serve: Serve) -> None:
    quick = await serve(checkpoint_seconds=QUIET)
    stream = await quick.subscribe("bob")
    for _ in range(15):
        resuming = await slow.subscribe("bob", stream.token)
        posted = await quick.post("bob")
        assert await stream.event() == ("added", posted)
        assert await resuming.event() == ("added", posted)
        await resuming.close()


async def test_checkpoint_while_the_log_is_read(store: Store, serve: Serve, tmp_path: Path) -> None:
    """It says that nothing has happened, and so waits for what the log holds."""
    quick = await serve(checkpoint_seconds=QUIET)
    stream = await quick.subscribe("bob")
    await quick.post("bob")
    async with slowly(store, tmp_path, SLOW / 3) as slow:
        for _ in range(15):
            resumed = await slow.subscribe("bob", stream.token)
            assert (await resumed.message()).events
            await resumed.close()


async def test_resumed_behind_a_deletion(serve: Serve) -> None:
    """What was told before it was deleted is not told again, whatever the server has kept."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    token = stream.token
    kept, gone = await service.post("bob"), await service.post("bob")
    assert await stream.events(2) == [("added", kept), ("added", gone)]
    await service.delete(gone, "bob")
    assert await stream.event() == ("removed", gone)
    resumed = await service.subscribe("bob", token)
    assert await resumed.events(2) == [("added", kept), ("removed", gone)]


async def test_log_whose_lease_ran_out(serve: Serve) -> None:
    """Nobody wrote it from then on: it is not resumed, though it may be there still."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    token = stream.token
    await service.post("bob")
    await stream.close()
    await service.store.zadd(keys.live(service.tag("bob")), {"bob": 1})
    await service.post("bob")
    fresh = await (await service.subscribe("bob", token)).expired()
    resumed = await service.subscribe("bob", fresh)
    posted = await service.post("bob")
    assert await resumed.event() == ("added", posted)


async def test_two_places_in_one_log(serve: Serve) -> None:
    """Each stream is told what comes after its own place, though they ask together."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    tokens, posted = [stream.token], []
    for _ in range(10):
        posted.append(await service.post("bob"))
        assert await stream.event() == ("added", posted[-1])
        tokens.append(stream.token)
    resumed = await asyncio.gather(*(service.subscribe("bob", token) for token in tokens[:-1]))
    told = await asyncio.gather(*map(_told, resumed, range(10, 0, -1)))
    assert told == [[("added", one) for one in posted[place:]] for place in range(10)]


async def _told(stream: Stream, count: int) -> list[tuple[str, str]]:
    return await stream.events(count)


async def test_last_message_of_a_stopping_server(serve: Serve) -> None:
    """It says where the stream was, although nothing has happened."""
    service = await serve(checkpoint_seconds=QUIET)
    stream = await service.subscribe("bob")
    created = stream.token
    service.server.engine.live.drain(0.1)
    last = await stream.message()
    assert (list(last.events), last.resume_token) == ([], created)
    assert (await end_of(stream)).reason == "DRAINING"


async def test_followed_by_two_routes_and_unfollowed(serve: Serve) -> None:
    """What came by a source that is gone is left out, and nothing else."""
    service = await serve(checkpoint_seconds=QUIET)
    for source in ("alice", "eve"):
        await service.follow("bob", source)
    stream = await service.subscribe("bob")
    token = stream.token
    gone, kept = await service.post("eve"), await service.post("alice")
    assert await stream.events(2) == [("added", gone), ("added", kept)]
    await service.unfollow("bob", "eve")
    resumed = await service.subscribe("bob", token)
    assert await resumed.until(("unfollowed", "eve")) == [("added", kept), ("unfollowed", "eve")]


async def test_token_of_a_message_is_that_of_its_last_event(store: Store, tmp_path: Path) -> None:
    """Not how far the log has been read meanwhile: whoever resumes with it would miss the rest.

    Many users with much to be told, so that logs are read while messages of others are written.
    """
    service = await Service.start(store.url, checkpoint_seconds=QUIET)
    users = [f"u{number}" for number in range(USERS)]
    try:
        begun = {user: await service.subscribe(user) for user in users}
        await service.follow_all([(user, "alice") for user in users])
        posted = await service.posts("alice", EVENTS)
        await service.at_rest()
        places: dict[str, dict[str, str]] = {}
        for user in users:
            log = await service.store.xrange(f"{service.tag(user)}l:{user}")
            places[user] = {
                fields[b"a"].decode(): place.decode() for place, fields in log if b"a" in fields
            }
        call = service.subscriptions.SubscribeFeeds()
        for user, stream in begun.items():
            add = SubscribeFeedRequest(user=user, resume_token=stream.token)
            await call.write(SubscribeFeedsRequest(add=add))
        tokens = Tokens(service.server.engine.store.secret)
        left = dict.fromkeys(users, len(posted))
        while any(left.values()):
            message = await call.read()
            added = [event.added.activity.id for event in message.events if event.HasField("added")]
            if added:
                bound = resume_bound(message.user, "")
                (place,) = tokens.read_logs(message.resume_token, 1, *bound)
                assert place == places[message.user][added[-1]]
                left[message.user] -= len(added)
        call.cancel()
    finally:
        await service.stop()
