"""SubscribeFeeds: users come and go on a stream, and none disturbs the others."""

from collections.abc import AsyncIterator

import grpc
import pytest
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_RESET,
    SUBSCRIPTION_START_RESUMED,
    SubscribeFeedsRequest,
)

from tests.contract.feeds_stream import FeedsStream
from tests.serving import Serve, Service, ids_on_page, read_until_refused

#: Seconds between checkpoints: none comes while a test runs.
CHECKPOINT_NEVER = 300


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=CHECKPOINT_NEVER)


@pytest.fixture
async def feeds(service: Service) -> AsyncIterator[FeedsStream]:
    stream = FeedsStream(service)
    yield stream
    stream.call.cancel()


@pytest.mark.every_store
async def test_one_stream_serves_many_users(service: Service, feeds: FeedsStream) -> None:
    users = [f"u{number}" for number in range(100)]
    for user in users:
        await service.follow(user, "alice")
        await feeds.add(user)
    assert await feeds.read_events(100) == sorted((user, "started", "") for user in users)
    activity_id = await service.post("alice")
    assert await feeds.read_events(100) == sorted((user, "added", activity_id) for user in users)
    await service.delete(activity_id, "alice")
    assert await feeds.read_events(100) == sorted((user, "removed", activity_id) for user in users)


@pytest.mark.every_store
async def test_users_are_added_and_removed_while_the_stream_is_open(
    service: Service, feeds: FeedsStream
) -> None:
    for user in ("bob", "carol"):
        await service.follow(user, "alice")
        await feeds.add(user)
        assert await feeds.read_event() == (user, "started", "")
    await feeds.remove("carol")
    assert await feeds.read_event() == ("carol", "unsubscribed", "")
    await feeds.remove("nobody")
    assert await feeds.read_event() == ("nobody", "unsubscribed", "")
    activity_id = await service.post("alice")
    assert await feeds.read_event() == ("bob", "added", activity_id)
    # Carol resumes where she left, and then begins anew.
    await feeds.add("carol", feeds.tokens["carol"])
    assert await feeds.read_event() == ("carol", "added", activity_id)
    await feeds.add("carol", initial_page_size=5)
    while not (message := await feeds.read_message()).started.HasField("page"):
        pass
    assert ids_on_page(message.started.page) == [activity_id]
    last_id = await service.post("alice")
    assert await feeds.read_events(2) == [("bob", "added", last_id), ("carol", "added", last_id)]


async def test_one_user_may_have_several_subscriptions_on_a_stream(
    service: Service, feeds: FeedsStream
) -> None:
    for name in ("one", "two"):
        await feeds.add("bob", subscription_id=name)
        assert await feeds.read_event() == (name, "started", "")
    activity_id = await service.post("bob")
    assert await feeds.read_events(2) == [
        ("one", "added", activity_id),
        ("two", "added", activity_id),
    ]
    await feeds.remove("one")
    assert await feeds.read_event() == ("one", "unsubscribed", "")
    last_id = await service.post("bob")
    assert await feeds.read_event() == ("two", "added", last_id)


@pytest.mark.every_store
async def test_error_of_one_user_does_not_end_the_stream_for_others(
    service: Service, feeds: FeedsStream
) -> None:
    for user in ("bob", "carol"):
        await service.follow(user, "alice")
        await feeds.add(user)
        assert await feeds.read_event() == (user, "started", "")
    await feeds.add("dave", feeds.tokens["bob"])
    assert await feeds.read_event() == ("dave", "error", "RESUME_TOKEN_INVALID")
    await feeds.add("erin\n")
    assert await feeds.read_event() == ("erin\n", "error", "INVALID_FIELD")
    # A log is lost while the stream is open.
    await service.store.delete(f"{service.tag('carol')}l:carol")
    activity_id = await service.post("alice")
    service.server.engine.live._wake_all()
    assert await feeds.read_events(2) == [("bob", "added", activity_id), ("carol", "reset", "")]
    last_id = await service.post("alice")
    assert await feeds.read_events(2) == [("bob", "added", last_id), ("carol", "added", last_id)]
    # A log was lost before its user is added.
    token = feeds.tokens["bob"]
    await feeds.remove("bob")
    assert await feeds.read_event() == ("bob", "unsubscribed", "")
    await service.store.delete(f"{service.tag('bob')}l:bob")
    await feeds.add("bob", token)
    assert await feeds.read_event() == ("bob", "reset", "")


@pytest.mark.every_store
async def test_log_that_cannot_be_read_fails_for_its_user_alone(
    service: Service, feeds: FeedsStream
) -> None:
    """The server reads the log in the same call as the logs of other users."""
    for user in ("bob", "carol"):
        await service.follow(user, "alice")
        await feeds.add(user)
        assert await feeds.read_event() == (user, "started", "")
    carols_stream = await service.subscribe("carol")
    await service.store.set(f"{service.tag('carol')}l:carol", "secret")
    service.server.engine.live._wake_all()
    assert await feeds.read_event() == ("carol", "error", "INTERNAL")
    refusal = await read_until_refused(carols_stream)
    assert (refusal.code, refusal.message) == (grpc.StatusCode.INTERNAL, "internal error")
    activity_id = await service.post("bob")
    assert await feeds.read_event() == ("bob", "added", activity_id)


async def test_user_beyond_the_limit_of_subscriptions_is_refused(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, max_subscriptions=2)
    feeds = FeedsStream(service)
    for user in ("a", "b", "c"):
        await feeds.add(user)
    events = await feeds.read_events(3)
    assert ("c", "error", "TOO_MANY_SUBSCRIPTIONS") in events
    await feeds.remove("a")
    assert await feeds.read_event() == ("a", "unsubscribed", "")
    await feeds.add("c")
    assert await feeds.read_event() == ("c", "started", "")
    feeds.call.cancel()


async def test_stream_goes_on_after_its_client_has_ended_its_requests(
    service: Service, feeds: FeedsStream
) -> None:
    await feeds.add("bob")
    assert await feeds.read_event() == ("bob", "started", "")
    await feeds.call.done_writing()
    activity_id = await service.post("bob")
    assert await feeds.read_event() == ("bob", "added", activity_id)


async def test_bad_request_does_not_end_the_stream_for_others(
    service: Service, feeds: FeedsStream
) -> None:
    await service.follow("bob", "alice")
    await feeds.add("bob")
    assert await feeds.read_event() == ("bob", "started", "")
    await feeds.call.write(SubscribeFeedsRequest())
    assert await feeds.refusal() == ("", {"action": "is required"})
    await feeds.add("", subscription_id="s")
    assert await feeds.refusal() == ("s", {"add.user": "is required"})
    await feeds.add("bob", subscription_id="")
    assert await feeds.refusal() == ("", {"add.subscription_id": "is required"})
    await feeds.remove("")
    assert await feeds.refusal() == ("", {"remove.subscription_id": "is required"})
    # The refusal does not repeat an id that is too long for any subscription.
    await feeds.add("bob", subscription_id="x" * 100_000)
    name, rules = await feeds.refusal()
    assert (name, list(rules)) == ("", ["add.subscription_id"])
    activity_id = await service.post("alice")
    assert await feeds.read_event() == ("bob", "added", activity_id)


@pytest.mark.every_store
async def test_user_who_cannot_be_added_does_not_end_the_stream_for_others(
    service: Service, feeds: FeedsStream
) -> None:
    """The store holds something else where dave's feed should be.

    A log without a lease is begun anew, whatever the store holds there: carol can be added.
    """
    await service.follow("bob", "alice")
    await feeds.add("bob")
    assert await feeds.read_event() == ("bob", "started", "")
    await service.store.set(f"{service.tag('carol')}l:carol", "secret")
    await service.store.set(f"{service.tag('dave')}f:dave", "secret")
    await feeds.add("carol")
    await feeds.add("dave")
    assert sorted(await feeds.read_events(2)) == [
        ("carol", "started", ""),
        ("dave", "error", "INTERNAL"),
    ]
    activity_id = await service.post("alice")
    assert await feeds.read_event() == ("bob", "added", activity_id)


async def test_user_whose_log_was_trimmed_is_added_with_a_reset(
    service: Service, feeds: FeedsStream
) -> None:
    """The answer never has the token that was sent, as if the log still reached back to it."""
    await feeds.add("bob")
    assert await feeds.read_event() == ("bob", "started", "")
    token = feeds.tokens["bob"]
    await feeds.remove("bob")
    assert await feeds.read_event() == ("bob", "unsubscribed", "")
    for _ in range(3):
        await service.post("bob")
    log = f"{service.tag('bob')}l:bob"
    await service.store.xtrim(log, maxlen=1, approximate=False)
    await feeds.add("bob", token)
    message = await feeds.read_message()
    assert message.started.start == SUBSCRIPTION_START_RESET
    assert message.resume_token not in {"", token}


async def test_resumed_user_is_answered_although_the_log_has_no_new_event(
    service: Service, feeds: FeedsStream
) -> None:
    stream = await service.subscribe("bob")
    await feeds.add("bob", stream.token)
    message = await feeds.read_message()
    assert (message.subscription_id, message.resume_token) == ("bob", stream.token)
    assert message.started.start == SUBSCRIPTION_START_RESUMED


async def test_quiet_stream_sends_heartbeats(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=0.05)
    feeds = FeedsStream(service)
    await feeds.add("bob")
    assert (await feeds.read_message()).subscription_id == "bob"
    heartbeat = await feeds.read_message()
    assert (heartbeat.subscription_id, heartbeat.HasField("heartbeat")) == ("", True)
    feeds.call.cancel()
