"""Clients that go away while the server answers or refuses their calls.

The server treats it as no defect and logs nothing.
"""

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
from feedsvc.core.streams import Stream as LiveStream
from feedsvc.errors import StoreUnavailable, StreamNotRead
from feedsvc.interceptors.errors import ErrorInterceptor
from feedsvc.services.message_writer import MessageWriter
from tests.serving import (
    TIMEOUT_SECONDS,
    Serve,
    Service,
    Stream,
    read_until_refused,
    refusal_of,
    wait_until,
)

Handler = Callable[[Any], Awaitable[None]]
#: A message that is longer than a client that does not read accepts.
LONG_MESSAGE = SubscribeFeedResponse(resume_token="x" * 3_000_000)


@asynccontextmanager
async def serving_handler(handler: Handler) -> AsyncIterator[Any]:
    """Serve `handler` as SubscribeFeed; yield a stub of a client that buffers little."""

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


async def wait_until_client_is_gone(context: Any, call: Any) -> None:
    """Cancel the call and wait until the handler notices; let the handler survive it."""
    try:
        call.cancel()
        await asyncio.sleep(TIMEOUT_SECONDS)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


async def test_write_to_a_client_that_is_gone_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended, calls = asyncio.Event(), list[Any]()

    async def handler(context: Any) -> None:
        context.add_done_callback(lambda _: ended.set())
        await context.write(b"")
        await wait_until_client_is_gone(context, calls[0])
        await context.write(b"")

    async with serving_handler(handler) as stub:
        calls.append(stub.SubscribeFeed(SubscribeFeedRequest()))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await ended.wait()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_refusal_of_a_client_that_is_gone_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended, calls = asyncio.Event(), list[Any]()

    async def handler(context: Any) -> None:
        context.add_done_callback(lambda _: ended.set())
        await wait_until_client_is_gone(context, calls[0])
        raise StoreUnavailable("the store is not available")

    async with serving_handler(handler) as stub:
        calls.append(stub.SubscribeFeed(SubscribeFeedRequest()))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await ended.wait()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_stream_cut_at_its_first_message_ends_with_a_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client that begins to read after all learns why its stream ended."""
    was_cut = asyncio.Event()

    async def handler(context: Any) -> None:
        stream: Any = LiveStream(None, TIMEOUT_SECONDS)  # type: ignore[arg-type]
        writer = MessageWriter(stream, context, Config(write_seconds=0.1))

        def cancel() -> None:
            stream.cut = True
            stream.task.cancel()
            was_cut.set()

        asyncio.get_running_loop().call_later(0.2, cancel)
        for _ in range(10):
            await writer.write(LONG_MESSAGE.SerializeToString())
        raise StreamNotRead("not reached")

    async with serving_handler(handler) as stub:
        call = stub.SubscribeFeed(SubscribeFeedRequest())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await was_cut.wait()
            refusal = await read_until_refused(Stream(call))
    assert refusal.reason == "STREAM_NOT_READ"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_client_that_answers_every_message_gets_the_status_of_an_ended_stream(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    service = await serve(checkpoint_seconds=1, stream_seconds=1, drain_seconds=5)
    endings = await asyncio.gather(
        *(answer_until_the_end(service, f"u{number}") for number in range(20))
    )
    assert set(endings) == {(grpc.StatusCode.UNAVAILABLE, "STREAM_EXPIRED")}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def answer_until_the_end(service: Service, user: str) -> tuple[grpc.StatusCode, str]:
    """Answer every message of a stream with a request; return how the stream ended."""
    call = service.subscriptions.SubscribeFeeds()
    add = SubscribeFeedsRequest(add=AddFeedSubscription(subscription_id="s", user=user))
    await call.write(add)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (message := await call.read()) is not grpc.aio.EOF:
                if message.HasField("started"):
                    continue
                await call.write(add)
    except grpc.aio.AioRpcError as error:
        return error.code(), refusal_of(error).reason if error.trailing_metadata() else ""
    raise AssertionError("the stream ended without an error")


async def test_client_that_cancels_while_its_stream_is_refused_logs_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    service = await serve(checkpoint_seconds=300)

    async def open_and_cancel(number: int) -> None:
        request = SubscribeFeedRequest(user="bob", resume_token=f"{number}")
        call = service.subscriptions.SubscribeFeed(request)
        for _ in range(number % 20):
            await asyncio.sleep(0)
        call.cancel()

    await asyncio.gather(*(open_and_cancel(number) for number in range(400)))

    async def all_gone() -> bool:
        return not service.server.engine.live.streams

    await wait_until(all_gone)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
