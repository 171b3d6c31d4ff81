"""What is tried again, and when; and streams that end in ways in which our server does not."""

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

#: Seconds; much less than a test's step may take.
SILENCE = 0.2
FIRST, SECOND = "t1", "t2"


def plain(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """As gRPC itself makes it."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


def of(error: Exception) -> grpc.aio.AioRpcError:
    """As the service makes it."""
    status = status_of(error)
    details = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(code_of(status), grpc.aio.Metadata(), details)


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance always chooses the longest time."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)


def pauses(
    resuming: "layer.ResumableSubscription[Any, Any]", *errors: grpc.aio.AioRpcError | None
) -> list[float]:
    return [round(resuming.note_break(error)[1], 3) for error in errors]


@pytest.mark.parametrize(
    "error",
    [
        plain(grpc.StatusCode.UNAVAILABLE),
        plain(grpc.StatusCode.CANCELLED),
        plain(grpc.StatusCode.INTERNAL),
        plain(grpc.StatusCode.UNKNOWN),
        of(StoreUnavailable("")),
        of(Draining("")),
        of(StreamExpired("")),
        of(StreamNotRead("")),
        None,
    ],
)
def test_tried_again(error: grpc.aio.AioRpcError | None) -> None:
    told: list[grpc.RpcError | None] = []
    message, _ = layer.feed_subscription("bob", "", "", 0, told.append).note_break(error)
    assert message is None
    assert told == [error]


@pytest.mark.parametrize(
    "error",
    [
        plain(grpc.StatusCode.INVALID_ARGUMENT),
        plain(grpc.StatusCode.ABORTED),
        plain(grpc.StatusCode.OUT_OF_RANGE),
        plain(grpc.StatusCode.RESOURCE_EXHAUSTED),
        plain(grpc.StatusCode.DEADLINE_EXCEEDED),
        plain(grpc.StatusCode.UNIMPLEMENTED),
        plain(grpc.StatusCode.UNAUTHENTICATED),
        of(ResumeTokenInvalid("")),
        of(FeedError("a defect")),
    ],
)
def test_not_tried_again(error: grpc.aio.AioRpcError) -> None:
    told: list[grpc.RpcError | None] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        layer.feed_subscription("bob", "", "", 0, told.append).note_break(error)
    assert caught.value is error
    assert not told


def test_what_is_asked_next() -> None:
    """A page only as long as there is no token."""
    resuming = layer.feed_subscription("bob", "", "carol", 7, None)
    first = SubscribeFeedRequest(user="bob", viewer="carol", initial_page_size=7)
    assert resuming.request == first
    resuming.note_break(None)
    assert resuming.request == first
    resuming.note_message(SubscribeFeedResponse(resume_token=FIRST))
    then = SubscribeFeedRequest(user="bob", viewer="carol", resume_token=FIRST)
    assert resuming.request == then
    reset, _ = resuming.note_break(of(ResumeTokenExpired("", SECOND)))
    assert reset is not None
    assert reset.resume_token == SECOND
    assert reset.started.start == SUBSCRIPTION_START_RESET
    assert resuming.request.resume_token == SECOND


def test_what_has_no_reset() -> None:
    expired = of(ResumeTokenExpired("", SECOND))
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
    assert fresh_token(of(StreamExpired(""))) is None


@pytest.mark.usefixtures("longest")
def test_backoff_grows_until_a_message_comes() -> None:
    resuming = layer.feed_subscription("bob", "", "", 0, None)
    away = plain(grpc.StatusCode.UNAVAILABLE)
    assert pauses(resuming, *[away] * 8) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert pauses(resuming, *[None] * 5_000)[-1] == 10
    resuming.note_message(SubscribeFeedResponse(resume_token=FIRST))
    assert pauses(resuming, None, away) == [0.2, 0.4]


@pytest.mark.usefixtures("longest")
def test_backoff_after_what_the_service_says() -> None:
    resuming = layer.feed_subscription("bob", "", "", 0, None)
    assert pauses(resuming, of(Draining("")), of(StoreUnavailable(""))) == [0.4, 0.6]


@pytest.mark.usefixtures("longest")
@pytest.mark.parametrize("error", [of(StreamExpired("")), of(ResumeTokenExpired("", SECOND))])
def test_no_backoff(error: grpc.aio.AioRpcError) -> None:
    """But if nothing comes in between, it is no endless loop either."""
    resuming = layer.feed_subscription("bob", "", "", 0, None)
    told = retry_after(error) or 0.0
    assert pauses(resuming, error, error, error) == pytest.approx([0, 0.4 + told, 0.8 + told])
    resuming.note_message(SubscribeFeedResponse(resume_token=FIRST))
    assert pauses(resuming, error) == [0]


# Streams that end otherwise.


class Script:
    """A server whose streams have a message each and then end as they are told to."""

    def __init__(self, *ends: Callable[[Any], Awaitable[None]]) -> None:
        self._ends = ends
        self.requests: list[SubscribeFeedRequest] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Script"]:
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
        await (self._ends[number - 1] if number <= len(self._ends) else never)(context)


async def never(context: Any) -> None:
    await asyncio.Event().wait()


async def well(context: Any) -> None:
    pass


def with_code(code: grpc.StatusCode) -> Callable[[Any], Awaitable[None]]:
    async def end(context: Any) -> None:
        await context.abort(code)

    return end


async def test_ends_that_are_survived(connect: Connect) -> None:
    codes = [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]
    script = Script(well, *map(with_code, codes))
    async with script.serving():
        client = connect(script.port)
        breaks = Breaks()
        listener = Listener(client.subscribe("bob", on_break=breaks))
        found = [(await listener.read_message()).resume_token for _ in range(5)]
        assert found == ["t1", "t2", "t3", "t4", "t5"]
        assert [one.resume_token for one in script.requests] == ["", *found[:-1]]
        assert breaks.reasons == ["", "CANCELLED", "INTERNAL", "UNKNOWN"]
        await listener.close()
        await close(client)


async def test_end_that_is_not_survived(connect: Connect) -> None:
    script = Script(with_code(grpc.StatusCode.PERMISSION_DENIED))
    async with script.serving():
        client = connect(script.port)
        listener = Listener(client.subscribe("bob"))
        await listener.read_message()
        with pytest.raises(grpc.RpcError) as caught:
            await listener.read_message()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await listener.next() is None
        await close(client)


async def test_silent_streams(connect: Connect) -> None:
    script = Script()
    async with script.serving():
        client = connect(script.port)
        breaks = Breaks()
        listener = Listener(client.subscribe("bob", max_silence=SILENCE, on_break=breaks))
        found = [(await listener.read_message()).resume_token for _ in range(3)]
        assert found == ["t1", "t2", "t3"]
        assert breaks.reasons == ["", ""]
        await listener.close()
        await close(client)
