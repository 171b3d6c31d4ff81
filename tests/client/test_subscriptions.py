"""Subscriptions go on, whatever happens to streams, connections and servers."""

import asyncio
from typing import Any

import grpc
import pytest
from activityfeed import FeedClient, fresh_token, reason
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedResponse

from feedsvc.config import Limits
from tests.serving import TIMEOUT_SECONDS, Serve, Service, events_of, ids_on_page, wait_until

from .conftest import Client, Connect, close
from .listening import Breaks, Listener, added
from .wire import Wire

#: The content of a long activity.
LONG = "x" * 8_192
#: Long activities that do not fit into the bytes before a cut: 320 KB.
MANY, CUT_AFTER = 40, 100_000
#: Long activities that gRPC cannot hold of a stream that is not read: 12 MB.
TOO_MANY = 1_500
#: Seconds between checkpoints.
CHECKPOINT = 0.1
#: Seconds of silence after which a connection is taken for dead.
SILENCE = 1.0


def subscribe(client: Client, kind: str, token: str = "", **options: Any) -> Listener:
    """Subscribe to bob's feed, alice's outbox or all activities."""
    match kind:
        case "feed":
            return Listener(client.subscribe("bob", token, **options))
        case "activities":
            return Listener(client.subscribe_activities("alice", token, **options))
        case _:
            return Listener(client.subscribe_all(token, **options))


every_kind = pytest.mark.parametrize("kind", ["feed", "activities", "all"])


async def is_idle(service: Service) -> bool:
    """Return whether the server has no stream open."""
    live = service.server.engine.live
    return not (live._cursors or live._streams)


async def lose_logs(service: Service) -> None:
    """Delete all live logs."""
    for tag in service.server.engine.store.tags:
        async for log in service.store.scan_iter(match=f"{tag}l:*"):
            await service.store.delete(log)


@every_kind
async def test_subscription_survives_restarts_of_the_server(
    serve: Serve, connect: Connect, kind: str
) -> None:
    """Each event comes once and in order, also those that happen while the server is down."""
    other, server = await serve(), await serve()
    port = server.server.port
    await other.follow("bob", "alice")
    breaks = Breaks()
    listener = subscribe(connect(port), kind, on_break=breaks)
    assert await listener.read_event() == ("started", "")
    reading = asyncio.create_task(listener.read_events(27))
    posted: list[str] = []
    for _ in range(3):
        posted += await other.post_many("alice", 3)
        await server.stop()
        posted += await other.post_many("alice", 3)
        server = await serve(port=port)
        posted += await server.post_many("alice", 3)
    assert await reading == added(posted)
    assert breaks.reasons
    await listener.close()
    await wait_until(lambda: is_idle(server))


async def test_subscription_survives_a_drain_of_the_server(serve: Serve, connect: Connect) -> None:
    other, server = await serve(), await serve(drain_seconds=10)
    port = server.server.port
    breaks = Breaks()
    listener = subscribe(connect(port), "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    before = await other.post("bob")
    assert await listener.read_event() == ("added", before)
    reading = asyncio.create_task(listener.read_events(2))
    await server.stop()
    await wait_until(breaks.has_any)
    assert breaks.reasons[0] == "DRAINING"
    missed = await other.post("bob")
    await serve(port=port)
    after = await other.post("bob")
    assert await reading == added([missed, after])


async def test_subscription_survives_expired_streams(serve: Serve, connect: Connect) -> None:
    service = await serve(stream_seconds=1, checkpoint_seconds=CHECKPOINT)
    earlier = await service.post("bob")
    breaks = Breaks()
    client = connect(service.server.port)
    listener = subscribe(client, "feed", initial_page_size=10, on_break=breaks)
    assert ids_on_page((await listener.read_message()).started.page) == [earlier]
    for expired in range(1, 3):
        while len(breaks.reasons) < expired:
            message = await listener.read_message()
            assert not events_of(message)
            assert not message.started.HasField("page")
        posted = await service.post("bob")
        assert await listener.read_event() == ("added", posted)
    assert set(breaks.reasons) == {"STREAM_EXPIRED"}


async def test_expired_token_gives_a_reset_with_a_fresh_token(
    service: Service, connect: Connect
) -> None:
    client = connect(service.server.port)
    first = subscribe(client, "feed")
    assert await first.read_event() == ("started", "")
    await first.close()
    await service.post("bob")
    await lose_logs(service)
    second = subscribe(client, "feed", first.token)
    reset: SubscribeFeedResponse = await second.read_message()
    assert events_of(reset) == [("reset", "")]
    posted = await service.post("bob")
    assert await second.read_event() == ("added", posted)
    await second.close()
    third = subscribe(client, "feed", reset.resume_token)
    assert await third.read_event() == ("added", posted)


async def test_log_that_is_lost_during_a_stream_gives_a_reset(
    serve: Serve, connect: Connect
) -> None:
    service = await serve(checkpoint_seconds=CHECKPOINT)
    breaks = Breaks()
    listener = subscribe(connect(service.server.port), "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    for number in range(1, 3):
        await lose_logs(service)
        assert await listener.read_event() == ("reset", "")
        posted = await service.post("bob")
        assert await listener.read_event() == ("added", posted)
        assert breaks.reasons == ["RESUME_TOKEN_EXPIRED"] * number


@pytest.mark.parametrize("kind", ["activities", "all"])
async def test_lost_log_of_an_outbox_or_of_all_raises_with_a_fresh_token(
    service: Service, connect: Connect, kind: str
) -> None:
    client = connect(service.server.port)
    first = subscribe(client, kind)
    assert await first.read_event() == ("started", "")
    await service.post("alice")
    await first.close()
    await lose_logs(service)
    with pytest.raises(grpc.RpcError) as caught:
        await subscribe(client, kind, first.token).read_message()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    fresh = fresh_token(caught.value)
    assert fresh
    posted = await service.post("alice")
    assert await subscribe(client, kind, fresh).read_event() == ("added", posted)


@every_kind
async def test_invalid_token_raises(service: Service, connect: Connect, kind: str) -> None:
    breaks = Breaks()
    with pytest.raises(grpc.RpcError) as caught:
        await subscribe(connect(service.server.port), kind, "bad", on_break=breaks).read_message()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "RESUME_TOKEN_INVALID"
    assert fresh_token(caught.value) is None
    assert not breaks.reasons


async def test_page_with_a_token_is_refused(service: Service, connect: Connect) -> None:
    client = connect(service.server.port)
    first = subscribe(client, "feed")
    await first.read_message()
    with pytest.raises(grpc.RpcError) as caught:
        await subscribe(client, "feed", first.token, initial_page_size=1).read_message()
    assert reason(caught.value) == "INVALID_FIELD"


@every_kind
async def test_connection_cut_in_the_middle_of_a_message_loses_no_event(
    service: Service, connect: Connect, kind: str
) -> None:
    await service.follow("bob", "alice")
    first = subscribe(connect(service.server.port), kind)
    assert await first.read_event() == ("started", "")
    await first.close()
    posted = await service.post_many("alice", MANY, content=LONG)
    async with Wire.to(service.server.port) as wire:
        wire.cut_after, wire.cuts = CUT_AFTER, 2
        breaks = Breaks()
        client = connect(wire.port)
        second = subscribe(client, kind, first.token, on_break=breaks)
        assert await second.read_events(MANY) == added(posted)
        assert wire.cuts == 0
        assert len(breaks.reasons) >= 2
        last = await service.post("alice")
        assert await second.read_event() == ("added", last)
        await second.close()
        await close(client)


async def test_page_that_was_cut_is_requested_again(service: Service, connect: Connect) -> None:
    posted = await service.post_many("bob", MANY, content=LONG)
    async with Wire.to(service.server.port) as wire:
        wire.cut_after, wire.cuts = CUT_AFTER, 2
        client = connect(wire.port)
        listener = subscribe(client, "feed", initial_page_size=MANY)
        message = await listener.read_message()
        assert wire.cuts == 0
        assert ids_on_page(message.started.page) == posted[::-1]
        last = await service.post("bob")
        assert await listener.read_event() == ("added", last)
        await listener.close()
        await close(client)


@every_kind
async def test_half_open_connection_is_replaced(serve: Serve, connect: Connect, kind: str) -> None:
    """The connection stays open and silent. The connection that replaces it may be the next one."""
    service = await serve(checkpoint_seconds=CHECKPOINT)
    await service.follow("bob", "alice")
    async with Wire.to(service.server.port) as wire:
        breaks = Breaks()
        client = connect(wire.port)
        listener = subscribe(client, kind, max_silence=SILENCE, on_break=breaks)
        assert await listener.read_event() == ("started", "")
        for _ in range(2):
            wire.silence()
            posted = await service.post("alice")
            assert await listener.read_event() == ("added", posted)
        assert set(breaks.reasons) == {""}
        assert wire.connections >= 3
        await listener.close()
        await close(client)
    await wait_until(lambda: is_idle(service))


async def test_caller_that_reads_late_does_not_break_the_stream(
    serve: Serve, connect: Connect
) -> None:
    """Silence is the time that the caller waits for a message, not the time between two reads."""
    service = await serve(checkpoint_seconds=CHECKPOINT)
    breaks = Breaks()
    listener = subscribe(connect(service.server.port), "feed", max_silence=SILENCE, on_break=breaks)
    assert await listener.read_event() == ("started", "")
    await asyncio.sleep(2 * SILENCE)
    posted = await service.post("bob")
    assert await listener.read_event() == ("added", posted)
    assert not breaks.reasons


async def test_stream_that_was_not_read_in_time_is_resumed(serve: Serve, connect: Connect) -> None:
    service = await serve(write_seconds=0.2, limits=Limits(log_cap=5_000))
    actors = ("alice", "carol")  # one outbox does not hold all the activities
    for actor in actors:
        await service.follow("bob", actor)
    breaks = Breaks()
    listener = subscribe(connect(service.server.port), "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    posted: list[str] = []
    for _ in range(TOO_MANY // 500):
        for actor in actors:
            posted += await service.post_many(actor, 250, content=LONG)
    await wait_until(lambda: is_idle(service))
    assert await listener.read_events(TOO_MANY) == added(posted)
    assert set(breaks.reasons) == {"STREAM_NOT_READ"}


async def test_closing_ends_the_call(service: Service, connect: Connect) -> None:
    client = connect(service.server.port)
    for kind in ("feed", "activities", "all"):
        listener = subscribe(client, kind)
        await listener.read_message()
        assert not await is_idle(service)
        await listener.close()
        assert await listener.read_or_none() is None
        await wait_until(lambda: is_idle(service))


async def test_closing_the_client_ends_subscriptions(service: Service, connect: Connect) -> None:
    client = connect(service.server.port)
    listeners = [subscribe(client, kind) for kind in ("feed", "activities", "all")]
    for listener in listeners:
        assert await listener.read_event() == ("started", "")
    reading = [asyncio.create_task(listener.read_to_the_end()) for listener in listeners]
    await asyncio.sleep(0)
    await close(client)
    await asyncio.gather(*reading)
    await wait_until(lambda: is_idle(service))


async def test_closing_a_client_without_a_server_ends_its_subscription(
    service: Service, connect: Connect
) -> None:
    breaks = Breaks()
    client = connect(service.server.port)
    listener = subscribe(client, "feed", on_break=breaks)
    assert await listener.read_event() == ("started", "")
    reading = asyncio.create_task(listener.read_to_the_end())
    await service.stop()

    async def has_retried() -> bool:
        return len(breaks.reasons) > 2

    await wait_until(has_retried)
    await close(client)
    await reading


async def test_error_of_the_break_callback_ends_the_subscription(
    service: Service, connect: Connect
) -> None:
    def give_up(error: grpc.RpcError | None) -> None:
        raise RuntimeError("enough")

    listener = subscribe(connect(service.server.port), "feed", on_break=give_up)
    assert await listener.read_event() == ("started", "")
    reading = asyncio.create_task(listener.read_to_the_end())
    await service.stop()
    with pytest.raises(RuntimeError, match="enough"):
        await reading


async def test_cancelled_iteration_ends_the_stream(service: Service) -> None:
    async with FeedClient.connect(f"127.0.0.1:{service.server.port}") as client:
        has_begun = asyncio.Event()

        async def listen() -> None:
            async for _ in client.subscribe("bob"):
                has_begun.set()

        listening = asyncio.create_task(listen())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await has_begun.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await wait_until(lambda: is_idle(service))


async def test_cancellation_while_the_client_is_closed_is_not_swallowed(service: Service) -> None:
    client = FeedClient.connect(f"127.0.0.1:{service.server.port}")
    listener = Listener(client.subscribe("bob"))
    assert await listener.read_event() == ("started", "")
    listening = asyncio.create_task(listener.read_to_the_end())
    await asyncio.sleep(0)
    listening.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await listening
