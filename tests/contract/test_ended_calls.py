"""Calls whose client goes while they are answered or refused: no defect, and nothing in the log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from activityfeed.v1.subscription_service_pb2 import (
    AddFeedSubscription,
    SubscribeFeedRequest,
    SubscribeFeedResponse,
    SubscribeFeedsRequest,
)
from activityfeed.v1.subscription_service_pb2_grpc import (
    SubscriptionServiceServicer,
    SubscriptionServiceStub,
    add_SubscriptionServiceServicer_to_server,
)

from feedsvc.config import Config
from feedsvc.core.streams import Stream as Followed
from feedsvc.errors import StoreUnavailable, StreamNotRead
from feedsvc.interceptors.errors import ErrorInterceptor
from feedsvc.services.message_writer import MessageWriter
from tests.serving import SECONDS, Serve, Service, Stream, end_of, refusal_of, until

Handler = Callable[[Any], Awaitable[None]]
#: More than a client that does not read takes.
LONG = SubscribeFeedResponse(resume_token="x" * 3_000_000)


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[Any]:
    """A server whose SubscribeFeed is this handler; a stub of a client that holds little unread."""

    class Answering(SubscriptionServiceServicer):
        async def SubscribeFeed(  # type: ignore[override]
            self, request: SubscribeFeedRequest, context: Any
        ) -> None:
            await handler(context)

    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    add_SubscriptionServiceServicer_to_server(Answering(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1_024))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield SubscriptionServiceStub(channel)
    await server.stop(None)


async def gone(context: Any, call: Any) -> None:
    """Until the client has gone, which the handler survives."""
    try:
        call.cancel()
        await asyncio.sleep(SECONDS)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


async def test_what_is_written_to_nobody_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    ended, calls = asyncio.Event(), list[Any]()

    async def handler(context: Any) -> None:
        context.add_done_callback(lambda _: ended.set())
        await context.write(b"")
        await gone(context, calls[0])
        await context.write(b"")

    async with answering(handler) as stub:
        calls.append(stub.SubscribeFeed(SubscribeFeedRequest()))
        async with asyncio.timeout(SECONDS):
            await ended.wait()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_what_is_refused_to_nobody_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    ended, calls = asyncio.Event(), list[Any]()

    async def handler(context: Any) -> None:
        context.add_done_callback(lambda _: ended.set())
        await gone(context, calls[0])
        raise StoreUnavailable("the store is not available")

    async with answering(handler) as stub:
        calls.append(stub.SubscribeFeed(SubscribeFeedRequest()))
        async with asyncio.timeout(SECONDS):
            await ended.wait()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_first_message_that_is_cut_is_followed_by_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client that reads on after all is told why its stream ended."""
    cut = asyncio.Event()

    async def handler(context: Any) -> None:
        stream: Any = Followed(None, SECONDS)  # type: ignore[arg-type]
        writer = MessageWriter(stream, context, Config(write_seconds=0.1))

        def cancel() -> None:
            stream.cut = True
            stream.task.cancel()
            cut.set()

        asyncio.get_running_loop().call_later(0.2, cancel)
        for _ in range(10):
            await writer.write(LONG.SerializeToString())
        raise StreamNotRead("not reached")

    async with answering(handler) as stub:
        call = stub.SubscribeFeed(SubscribeFeedRequest())
        async with asyncio.timeout(SECONDS):
            await cut.wait()
            refusal = await end_of(Stream(call))
    assert refusal.reason == "STREAM_NOT_READ"
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_clients_that_write_when_streams_end(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Each that answers its last messages by requests is told the status all the same."""
    service = await serve(checkpoint_seconds=1, stream_seconds=1, drain_seconds=5)
    ended = await asyncio.gather(*(answered(service, f"u{number}") for number in range(20)))
    assert set(ended) == {(grpc.StatusCode.UNAVAILABLE, "STREAM_EXPIRED")}
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def answered(service: Service, user: str) -> tuple[grpc.StatusCode, str]:
    """How a stream ended on which every message was answered by a request."""
    call = service.subscriptions.SubscribeFeeds()
    add = SubscribeFeedsRequest(add=AddFeedSubscription(subscription_id="s", user=user))
    await call.write(add)
    try:
        async with asyncio.timeout(SECONDS):
            while (message := await call.read()) is not grpc.aio.EOF:
                if message.HasField("started"):
                    continue
                await call.write(add)
    except grpc.aio.AioRpcError as error:
        return error.code(), refusal_of(error).reason if error.trailing_metadata() else ""
    raise AssertionError("the stream ended without an error")


async def test_resets_while_streams_are_refused(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    service = await serve(checkpoint_seconds=300)

    async def reset(number: int) -> None:
        request = SubscribeFeedRequest(user="bob", resume_token=f"{number}")
        call = service.subscriptions.SubscribeFeed(request)
        for _ in range(number % 20):
            await asyncio.sleep(0)
        call.cancel()

    await asyncio.gather(*(reset(number) for number in range(400)))

    async def none_left() -> bool:
        return not service.server.engine.live.streams

    await until(none_left)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
