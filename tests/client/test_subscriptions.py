"""Subscriptions go on, whatever becomes of streams, connections and servers."""

import asyncio
from typing import Any

import grpc
import pytest
from activityfeed import FeedClient, fresh_token, reason
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedResponse

from feedsvc.config import Limits
from tests.serving import TIMEOUT_SECONDS, Serve, Service, events_of, ids_on_page, wait_until

from .conftest import Client, Connect, close
from .listening import Breaks, Event, Listener, added
from .wire import Wire

#: Activities whose events do not fit into what is passed before a cut: 320 KB.
MANY, LONG, CUT_AFTER = 40, "x" * 8_192, 100_000
#: Activities that are too much for what gRPC keeps of a stream that is not read: 12 MB.
TOO_MANY = 1_500
#: Seconds between checkpoints, and of silence after which a connection is taken for dead.
CHECKPOINT, SILENCE = 0.1, 1.0


def subscribed(client: Client, kind: str, token: str = "", **how: Any) -> Listener:
    """To bob's feed, alice's outbox or all."""
    match kind:
        case "feed":
            return Listener(client.subscribe("bob", token, **how))
        case "activities":
            return Listener(client.subscribe_activities("alice", token, **how))
        case _:
            return Listener(client.subscribe_all(token, **how))


every_kind = pytest.mark.parametrize("kind", ["feed", "activities", "all"])


async def idle(service: Service) -> bool:
    """Whether the server has no stream open."""
    live = service.server.engine.live
    return not (live._cursors or live._streams)


async def lose_logs(service: Service) -> None:
    """The logs forget all that they hold."""
    for tag in service.server.engine.store.tags:
        async for log in service.store.scan_iter(match=f"{tag}l:*"):
            await service.store.delete(log)


@every_kind
async def test_restarts_of_the_server(serve: Serve, connect: Connect, kind: str) -> None:
    """Each event comes once and in order, also those of the time in between."""
    there, here = await serve(), await serve()
    port = here.server.port
    await there.follow("bob", "alice")
    breaks = Breaks()
    listener = subscribed(connect(port), kind, on_break=breaks)
    assert await listener.read_event() == ("started", "")
    reading = asyncio.create_task(listener.read_events(27))
    posted: list[str] = []
    for _ in range(3):
        posted += await there.post_many("alice", 3)
        await here.stop()
        posted += await there.post_many("alice", 3)
        here = await serve(port=port)
        posted += await here.post_many("alice", 3)
    assert await reading == added(posted)
    assert breaks.reasons
    await listener.close()
    await wait_until(lambda: idle(here))


async def test_server_that_drains(serve: Serve, connect: Connect) -> None:
    there, here = await serve(), await serve(drain_seconds=10)
    port = here.server.port
    breaks = Breaks()
    listener = subscribed(connect(port), "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    before = await there.post("bob")
    assert await listener.read_event() == ("added", before)
    reading = asyncio.create_task(listener.read_events(2))
    await here.stop()
    await wait_until(breaks.any)
    assert breaks.reasons[0] == "DRAINING"
    missed = await there.post("bob")
    await serve(port=port)
    after = await there.post("bob")
    assert await reading == added([missed, after])


async def test_streams_that_have_lived_long_enough(serve: Serve, connect: Connect) -> None:
    service = await serve(stream_seconds=1, checkpoint_seconds=CHECKPOINT)
    old = await service.post("bob")
    breaks = Breaks()
    client = connect(service.server.port)
    listener = subscribed(client, "feed", initial_page_size=10, on_break=breaks)
    assert ids_on_page((await listener.read_message()).started.page) == [old]
    for expired in range(1, 3):
        while len(breaks.reasons) < expired:
            message = await listener.read_message()
            assert not events_of(message)
            assert not message.started.HasField("page")
        posted = await service.post("bob")
        assert await listener.read_event() == ("added", posted)
    assert set(breaks.reasons) == {"STREAM_EXPIRED"}


async def test_token_that_has_expired(service: Service, connect: Connect) -> None:
    """It is told by a reset whose token is good, and what comes then is told."""
    client = connect(service.server.port)
    first = subscribed(client, "feed")
    assert await first.read_event() == ("started", "")
    await first.close()
    await service.post("bob")
    await lose_logs(service)
    second = subscribed(client, "feed", first.token)
    reset: SubscribeFeedResponse = await second.read_message()
    assert events_of(reset) == [("reset", "")]
    posted = await service.post("bob")
    assert await second.read_event() == ("added", posted)
    await second.close()
    third = subscribed(client, "feed", reset.resume_token)
    assert await third.read_event() == ("added", posted)


async def test_log_that_is_lost_meanwhile(serve: Serve, connect: Connect) -> None:
    service = await serve(checkpoint_seconds=CHECKPOINT)
    breaks = Breaks()
    listener = subscribed(connect(service.server.port), "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    for number in range(1, 3):
        await lose_logs(service)
        assert await listener.read_event() == ("reset", "")
        posted = await service.post("bob")
        assert await listener.read_event() == ("added", posted)
        assert breaks.reasons == ["RESUME_TOKEN_EXPIRED"] * number


@pytest.mark.parametrize("kind", ["activities", "all"])
async def test_what_has_no_reset_raises(service: Service, connect: Connect, kind: str) -> None:
    client = connect(service.server.port)
    first = subscribed(client, kind)
    assert await first.read_event() == ("started", "")
    await service.post("alice")
    await first.close()
    await lose_logs(service)
    with pytest.raises(grpc.RpcError) as caught:
        await subscribed(client, kind, first.token).read_message()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    fresh = fresh_token(caught.value)
    assert fresh
    posted = await service.post("alice")
    assert await subscribed(client, kind, fresh).read_event() == ("added", posted)


@every_kind
async def test_bad_token(service: Service, connect: Connect, kind: str) -> None:
    breaks = Breaks()
    with pytest.raises(grpc.RpcError) as caught:
        await subscribed(connect(service.server.port), kind, "bad", on_break=breaks).read_message()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "RESUME_TOKEN_INVALID"
    assert fresh_token(caught.value) is None
    assert not breaks.reasons


async def test_page_beside_a_token(service: Service, connect: Connect) -> None:
    client = connect(service.server.port)
    first = subscribed(client, "feed")
    await first.read_message()
    with pytest.raises(grpc.RpcError) as caught:
        await subscribed(client, "feed", first.token, initial_page_size=1).read_message()
    assert reason(caught.value) == "INVALID_FIELD"


@every_kind
async def test_connection_cut_in_the_middle_of_a_message(
    service: Service, connect: Connect, kind: str
) -> None:
    await service.follow("bob", "alice")
    first = subscribed(connect(service.server.port), kind)
    assert await first.read_event() == ("started", "")
    await first.close()
    posted = await service.post_many("alice", MANY, content=LONG)
    async with Wire.to(service.server.port) as wire:
        wire.cut_after, wire.cuts = CUT_AFTER, 2
        breaks = Breaks()
        client = connect(wire.port)
        second = subscribed(client, kind, first.token, on_break=breaks)
        assert await second.read_events(MANY) == added(posted)
        assert wire.cuts == 0
        assert len(breaks.reasons) >= 2
        last = await service.post("alice")
        assert await second.read_event() == ("added", last)
        await second.close()
        await close(client)


async def test_page_that_was_cut_is_asked_for_again(service: Service, connect: Connect) -> None:
    posted = await service.post_many("bob", MANY, content=LONG)
    async with Wire.to(service.server.port) as wire:
        wire.cut_after, wire.cuts = CUT_AFTER, 2
        client = connect(wire.port)
        listener = subscribed(client, "feed", initial_page_size=MANY)
        message = await listener.read_message()
        assert wire.cuts == 0
        assert ids_on_page(message.started.page) == posted[::-1]
        last = await service.post("bob")
        assert await listener.read_event() == ("added", last)
        await listener.close()
        await close(client)


@every_kind
async def test_connection_that_is_half_open(serve: Serve, connect: Connect, kind: str) -> None:
    """Nothing comes, and nobody says why. Twice, as the connection made for it may be next."""
    service = await serve(checkpoint_seconds=CHECKPOINT)
    await service.follow("bob", "alice")
    async with Wire.to(service.server.port) as wire:
        breaks = Breaks()
        client = connect(wire.port)
        listener = subscribed(client, kind, max_silence=SILENCE, on_break=breaks)
        assert await listener.read_event() == ("started", "")
        for _ in range(2):
            wire.silence()
            posted = await service.post("alice")
            assert await listener.read_event() == ("added", posted)
        assert set(breaks.reasons) == {""}
        assert wire.connections >= 3
        await listener.close()
        await close(client)
    await wait_until(lambda: idle(service))


async def test_message_that_is_long_in_being_applied(serve: Serve, connect: Connect) -> None:
    """Silence is what the caller has waited for a message, not how long it did not ask."""
    service = await serve(checkpoint_seconds=CHECKPOINT)
    breaks = Breaks()
    listener = subscribed(
        connect(service.server.port), "feed", max_silence=SILENCE, on_break=breaks
    )
    assert await listener.read_event() == ("started", "")
    await asyncio.sleep(2 * SILENCE)
    posted = await service.post("bob")
    assert await listener.read_event() == ("added", posted)
    assert not breaks.reasons


async def test_stream_that_was_not_read_in_time(serve: Serve, connect: Connect) -> None:
    service = await serve(write_seconds=0.2, limits=Limits(log_cap=5_000))
    actors = ("alice", "carol")  # one outbox does not keep so many
    for actor in actors:
        await service.follow("bob", actor)
    breaks = Breaks()
    listener = subscribed(connect(service.server.port), "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    posted: list[str] = []
    for _ in range(TOO_MANY // 500):
        for actor in actors:
            posted += await service.post_many(actor, 250, content=LONG)
    await wait_until(lambda: idle(service))
    assert await listener.read_events(TOO_MANY) == added(posted)
    assert set(breaks.reasons) == {"STREAM_NOT_READ"}


async def test_closing_ends_the_call(service: Service, connect: Connect) -> None:
    client = connect(service.server.port)
    for kind in ("feed", "activities", "all"):
        listener = subscribed(client, kind)
        await listener.read_message()
        assert not await idle(service)
        await listener.close()
        assert await listener.next() is None
        await wait_until(lambda: idle(service))


async def test_closing_the_client_ends_subscriptions(service: Service, connect: Connect) -> None:
    client = connect(service.server.port)
    listeners = [subscribed(client, kind) for kind in ("feed", "activities", "all")]
    for listener in listeners:
        assert await listener.read_event() == ("started", "")
    reading = [asyncio.create_task(drained(listener)) for listener in listeners]
    await asyncio.sleep(0)
    await close(client)
    assert await asyncio.gather(*reading) == [[], [], []]
    await wait_until(lambda: idle(service))


async def drained(listener: Listener) -> list[Event]:
    """The events up to the end."""
    found: list[Event] = []
    while (message := await listener.next()) is not None:
        assert not events_of(message)
    return found


async def test_closing_the_client_that_waits_for_a_server(
    service: Service, connect: Connect
) -> None:
    breaks = Breaks()
    client = connect(service.server.port)
    listener = subscribed(client, "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    reading = asyncio.create_task(drained(listener))
    await service.stop()

    async def tried() -> bool:
        return len(breaks.reasons) > 2

    await wait_until(tried)
    await close(client)
    assert await reading == []


async def test_what_is_raised_at_a_break_ends_it(service: Service, connect: Connect) -> None:
    def enough(error: grpc.RpcError | None) -> None:
        raise RuntimeError("enough")

    listener = subscribed(connect(service.server.port), "feed", on_break=enough)
    assert await listener.read_event() == ("started", "")
    reading = asyncio.create_task(drained(listener))
    await service.stop()
    with pytest.raises(RuntimeError, match="enough"):
        await reading


async def test_cancelled_iteration(service: Service) -> None:
    async with FeedClient.connect(f"127.0.0.1:{service.server.port}") as client:
        begun = asyncio.Event()

        async def listen() -> None:
            async for _ in client.subscribe("bob"):
                begun.set()

        listening = asyncio.create_task(listen())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await begun.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await wait_until(lambda: idle(service))


async def test_cancelled_while_the_client_is_closed(service: Service) -> None:
    """A cancellation is not swallowed."""
    client = FeedClient.connect(f"127.0.0.1:{service.server.port}")
    listener = Listener(client.subscribe("bob"))
    assert await listener.read_event() == ("started", "")
    listening = asyncio.create_task(drained(listener))
    await asyncio.sleep(0)
    listening.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await listening
