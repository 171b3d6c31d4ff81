"""Retries of subscriptions: after which errors, and when; and ends that our server never makes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from activityfeed import _resuming as layer
from activityfeed import fresh_token, retry_after
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_RESET,
    SubscribeAllRequest,
    SubscribeFeedRequest,
    SubscribeFeedResponse,
)

from feedsvc.error_mapping import DETAILS_KEY, code_of, status_of
from feedsvc.errors import (
    Draining,
    FeedError,
    ResumeTokenExpired,
    ResumeTokenInvalid,
    StoreUnavailable,
    StreamExpired,
    StreamNotRead,
)

from .conftest import Connect, close
from .listening import Breaks, Listener

#: Seconds of silence after which a connection is taken for dead; much less than a test may take.
SILENCE = 0.2
FIRST, SECOND = "t1", "t2"


def grpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """Return an error as gRPC itself makes it."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


def service_error(error: Exception) -> grpc.aio.AioRpcError:
    """Return an error as the service makes it."""
    status = status_of(error)
    details = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(code_of(status), grpc.aio.Metadata(), details)


@pytest.fixture
def longest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chance always choose the longest pause."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)


def pauses(
    resuming: "layer.ResumableSubscription[Any, Any]", *errors: grpc.aio.AioRpcError | None
) -> list[float]:
    """Return the seconds that a subscription waits after each of some breaks."""
    return [round(resuming.note_break(error)[1], 3) for error in errors]


@pytest.mark.parametrize(
    "error",
    [
        grpc_error(grpc.StatusCode.UNAVAILABLE),
        grpc_error(grpc.StatusCode.CANCELLED),
        grpc_error(grpc.StatusCode.INTERNAL),
        grpc_error(grpc.StatusCode.UNKNOWN),
        service_error(StoreUnavailable("")),
        service_error(Draining("")),
        service_error(StreamExpired("")),
        service_error(StreamNotRead("")),
        None,
    ],
)
def test_subscription_survives_broken_connections_and_ended_streams(
    error: grpc.aio.AioRpcError | None,
) -> None:
    breaks: list[grpc.RpcError | None] = []
    message, _ = layer.feed_subscription("bob", "", "", 0, breaks.append).note_break(error)
    assert message is None
    assert breaks == [error]


@pytest.mark.parametrize(
    "error",
    [
        grpc_error(grpc.StatusCode.INVALID_ARGUMENT),
        grpc_error(grpc.StatusCode.ABORTED),
        grpc_error(grpc.StatusCode.OUT_OF_RANGE),
        grpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED),
        grpc_error(grpc.StatusCode.DEADLINE_EXCEEDED),
        grpc_error(grpc.StatusCode.UNIMPLEMENTED),
        grpc_error(grpc.StatusCode.UNAUTHENTICATED),
        service_error(ResumeTokenInvalid("")),
        service_error(FeedError("a defect")),
    ],
)
def test_subscription_raises_other_errors(error: grpc.aio.AioRpcError) -> None:
    breaks: list[grpc.RpcError | None] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        layer.feed_subscription("bob", "", "", 0, breaks.append).note_break(error)
    assert caught.value is error
    assert not breaks


def test_next_request_has_the_last_token_and_no_page() -> None:
    resuming = layer.feed_subscription("bob", "", "carol", 7, None)
    first_request = SubscribeFeedRequest(user="bob", viewer="carol", initial_page_size=7)
    assert resuming.request == first_request
    resuming.note_break(None)
    assert resuming.request == first_request
    resuming.note_message(SubscribeFeedResponse(resume_token=FIRST))
    next_request = SubscribeFeedRequest(user="bob", viewer="carol", resume_token=FIRST)
    assert resuming.request == next_request
    reset, _ = resuming.note_break(service_error(ResumeTokenExpired("", SECOND)))
    assert reset is not None
    assert reset.resume_token == SECOND
    assert reset.started.start == SUBSCRIPTION_START_RESET
    assert resuming.request.resume_token == SECOND


def test_expired_token_of_an_outbox_or_of_all_raises() -> None:
    expired = service_error(ResumeTokenExpired("", SECOND))
    for resuming in (
        layer.all_subscription(FIRST, None),
        layer.activities_subscription("alice", FIRST, "", None),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            resuming.note_break(expired)
        assert resuming.request.resume_token == FIRST
    assert layer.all_subscription(FIRST, None).request == SubscribeAllRequest(resume_token=FIRST)
    assert fresh_token(expired) == SECOND
    assert fresh_token(status_of(ResumeTokenExpired("", SECOND))) == SECOND
    assert fresh_token(service_error(StreamExpired(""))) is None


@pytest.mark.usefixtures("longest_pauses")
def test_backoff_grows_until_a_message_comes() -> None:
    resuming = layer.feed_subscription("bob", "", "", 0, None)
    unavailable = grpc_error(grpc.StatusCode.UNAVAILABLE)
    assert pauses(resuming, *[unavailable] * 8) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert pauses(resuming, *[None] * 5_000)[-1] == 10
    resuming.note_message(SubscribeFeedResponse(resume_token=FIRST))
    assert pauses(resuming, None, unavailable) == [0.2, 0.4]


@pytest.mark.usefixtures("longest_pauses")
def test_backoff_adds_the_delay_that_the_service_asks_for() -> None:
    resuming = layer.feed_subscription("bob", "", "", 0, None)
    assert pauses(resuming, service_error(Draining("")), service_error(StoreUnavailable(""))) == [
        0.4,
        0.6,
    ]


@pytest.mark.usefixtures("longest_pauses")
@pytest.mark.parametrize(
    "error", [service_error(StreamExpired("")), service_error(ResumeTokenExpired("", SECOND))]
)
def test_first_resumption_after_an_ended_stream_comes_at_once(error: grpc.aio.AioRpcError) -> None:
    """Without a message in between, the next resumptions wait: they are no endless loop."""
    resuming = layer.feed_subscription("bob", "", "", 0, None)
    delay = retry_after(error) or 0.0
    assert pauses(resuming, error, error, error) == pytest.approx([0, 0.4 + delay, 0.8 + delay])
    resuming.note_message(SubscribeFeedResponse(resume_token=FIRST))
    assert pauses(resuming, error) == [0]


# Ends that our server never makes.


class ScriptedServer:
    """A server whose streams send a message each and then end as the test says."""

    def __init__(self, *ends: Callable[[Any], Awaitable[None]]) -> None:
        self._ends = ends
        self.requests: list[SubscribeFeedRequest] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedServer"]:
        server = grpc.aio.server()
        handler = grpc.unary_stream_rpc_method_handler(
            self._subscribe,
            SubscribeFeedRequest.FromString,
            SubscribeFeedResponse.SerializeToString,
        )
        name = "activityfeed.v1.SubscriptionService"
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, {"SubscribeFeed": handler})]
        )
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)

    async def _subscribe(self, request: SubscribeFeedRequest, context: Any) -> None:
        self.requests.append(request)
        number = len(self.requests)
        await context.write(SubscribeFeedResponse(resume_token=f"t{number}"))
        await (self._ends[number - 1] if number <= len(self._ends) else never_end)(context)


async def never_end(context: Any) -> None:
    await asyncio.Event().wait()


async def end_well(context: Any) -> None:
    pass


def end_with(code: grpc.StatusCode) -> Callable[[Any], Awaitable[None]]:
    async def end(context: Any) -> None:
        await context.abort(code)

    return end


async def test_subscription_survives_ends_without_a_reason(connect: Connect) -> None:
    codes = [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]
    server = ScriptedServer(end_well, *map(end_with, codes))
    async with server.serving():
        client = connect(server.port)
        breaks = Breaks()
        listener = Listener(client.subscribe("bob", on_break=breaks))
        tokens = [(await listener.read_message()).resume_token for _ in range(5)]
        assert tokens == ["t1", "t2", "t3", "t4", "t5"]
        assert [request.resume_token for request in server.requests] == ["", *tokens[:-1]]
        assert breaks.reasons == ["", "CANCELLED", "INTERNAL", "UNKNOWN"]
        await listener.close()
        await close(client)


async def test_subscription_ends_with_an_error_that_it_raises(connect: Connect) -> None:
    server = ScriptedServer(end_with(grpc.StatusCode.PERMISSION_DENIED))
    async with server.serving():
        client = connect(server.port)
        listener = Listener(client.subscribe("bob"))
        await listener.read_message()
        with pytest.raises(grpc.RpcError) as caught:
            await listener.read_message()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await listener.read_or_none() is None
        await close(client)


async def test_silent_stream_is_resumed(connect: Connect) -> None:
    server = ScriptedServer()
    async with server.serving():
        client = connect(server.port)
        breaks = Breaks()
        listener = Listener(client.subscribe("bob", max_silence=SILENCE, on_break=breaks))
        tokens = [(await listener.read_message()).resume_token for _ in range(3)]
        assert tokens == ["t1", "t2", "t3"]
        assert breaks.reasons == ["", ""]
        await listener.close()
        await close(client)
