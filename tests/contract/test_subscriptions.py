"""The streams of the contract; tests/pitfalls/test_live.py tests the log of SubscribeFeed."""

import grpc
import pytest
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_NEW,
    SubscribeActivitiesRequest,
    SubscribeAllRequest,
    SubscribeFeedRequest,
)

from feedsvc.config import Limits
from feedsvc.core import keys
from tests.serving import Serve, Service, Stream, expect_refusal, ids_on_page

#: Seconds between checkpoints: none comes while a test runs.
CHECKPOINT_NEVER = 300
#: Limits that make a celebrity of every entity with more than one follower.
CELEBRITIES = Limits(celebrity_threshold=2)


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=CHECKPOINT_NEVER)


async def subscribe_with_page(service: Service, user: str, size: int) -> tuple[Stream, list[str]]:
    """Open a stream that begins with a page; return the stream and the ids of the page."""
    request = SubscribeFeedRequest(user=user, initial_page_size=size)
    stream = Stream(service.subscriptions.SubscribeFeed(request))
    first = await stream.read_message()
    assert first.started.start == SUBSCRIPTION_START_NEW
    assert first.started.HasField("page")
    return stream, ids_on_page(first.started.page)


# Streams that begin with the newest page.


@pytest.mark.every_store
async def test_stream_begins_with_the_newest_page_and_continues_with_changes(
    service: Service,
) -> None:
    await service.follow("bob", "alice")
    ids_before = await service.post_many("alice", 5)
    stream, page_ids = await subscribe_with_page(service, "bob", 3)
    assert page_ids == ids_before[:1:-1]
    added_id = await service.post("alice")
    await service.delete(ids_before[-1], "alice")
    assert await stream.read_events(2) == [("added", added_id), ("removed", ids_before[-1])]


@pytest.mark.every_store
async def test_stream_does_not_add_what_its_first_page_shows(serve: Serve) -> None:
    """A delivery that comes later than the page, here a celebrity's, does not add it either."""
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, limits=CELEBRITIES, workers=0)
    for user in ("bob", "carol", "dave"):
        await service.follow(user, "alice")
    await service.server.engine.workers.work(everything=True)
    stream, _ = await subscribe_with_page(service, "bob", 10)
    await stream.close()
    activity_id = await service.post("alice")
    stream, page_ids = await subscribe_with_page(service, "bob", 10)
    assert page_ids == [activity_id]
    await service.server.engine.workers.work(everything=True)
    own_id = await service.post("bob")
    assert await stream.read_event() == ("added", own_id)


async def test_page_token_of_a_streams_first_page_continues_the_feed(service: Service) -> None:
    ids_before = await service.post_many("bob", 5)
    request = SubscribeFeedRequest(user="bob", initial_page_size=2)
    stream = Stream(service.subscriptions.SubscribeFeed(request))
    page = (await stream.read_message()).started.page
    assert ids_on_page(await service.page("bob", token=page.next_page_token)) == ids_before[2::-1]


async def test_initial_page_size_is_checked(service: Service) -> None:
    for fields, rule in (
        ({"initial_page_size": -1}, "must not be negative"),
        ({"initial_page_size": 1, "resume_token": "x"}, "must not be given with a resume_token"),
    ):
        request = SubscribeFeedRequest(user="bob", **fields)  # type: ignore[arg-type]
        refusal = await expect_refusal(service.subscriptions.SubscribeFeed(request).read())
        assert refusal.rules == {"initial_page_size": rule}


# Streams of outboxes and of everything.


@pytest.mark.every_store
async def test_stream_of_an_outbox_brings_its_changes(service: Service) -> None:
    await service.post("repo:x")
    stream = await service.subscribe_activities("repo:x")
    own_id = await service.post("repo:x")
    await service.post("alice")
    addressed_id = await service.post("alice", to=["repo:x"], request_id="r")
    await service.post("alice", to=["repo:x"], request_id="r")
    await service.delete(addressed_id, "alice")
    await service.delete(own_id, "repo:x")
    expected = [
        ("added", own_id),
        ("added", addressed_id),
        ("removed", addressed_id),
        ("removed", own_id),
    ]
    assert await stream.read_events(4) == expected


@pytest.mark.every_store
async def test_stream_of_an_outbox_resumes_on_another_server(serve: Serve) -> None:
    server_a = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    server_b = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    stream = await server_a.subscribe_activities("repo:x")
    tokens, expected = [stream.token], []
    for _ in range(4):
        expected.append(("added", await server_a.post("alice", to=["repo:x"])))
        assert await stream.read_event() == expected[-1]
        tokens.append(stream.token)
    for number, token in enumerate(tokens[:-1]):
        resumed = await server_b.subscribe_activities("repo:x", token)
        assert await resumed.read_events(4 - number) == expected[number:]


@pytest.mark.every_store
async def test_stream_of_an_outbox_does_not_add_an_old_activity_delivered_again(
    service: Service,
) -> None:
    """The log of an outbox knows what the outbox holds."""
    activity_id = await service.post("alice", to=["repo:x"])
    stream = await service.subscribe_activities("repo:x")
    engine = service.server.engine
    await engine.store.script(
        "outbox_add", engine.logs.of_outbox("repo:x").shard, "repo:x", activity_id
    )
    last_id = await service.post("repo:x")
    assert await stream.read_event() == ("added", last_id)


@pytest.mark.every_store
async def test_stream_of_everything_brings_all_changes_and_resumes(serve: Serve) -> None:
    server_a = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    server_b = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    stream = await server_a.subscribe_all()
    start_token = stream.token
    posted = [await server_b.post(f"u{number}") for number in range(40)]
    posted.append(await server_b.post("bob", to=["repo:x"], audience=2))
    events = await stream.read_events(41)
    assert sorted(events) == sorted(("added", activity_id) for activity_id in posted)
    await server_b.delete(posted[0], "u0")
    assert await stream.read_event() == ("removed", posted[0])
    resumed = await server_b.subscribe_all(start_token)
    expected = [("removed", posted[0]), *(("added", activity_id) for activity_id in posted[1:])]
    assert sorted(await resumed.read_events(41)) == sorted(expected)
    middle_token = resumed.token
    later_ids = [await server_a.post("u1") for _ in range(5)]
    assert await (await server_a.subscribe_all(middle_token)).read_events(5) == [
        ("added", activity_id) for activity_id in later_ids
    ]


@pytest.mark.every_store
async def test_stream_whose_log_was_lost_expires_with_a_fresh_token(service: Service) -> None:
    outbox_stream = await service.subscribe_activities("alice")
    all_stream = await service.subscribe_all()
    activity_id = await service.post("alice")
    for stream in (outbox_stream, all_stream):
        assert await stream.read_event() == ("added", activity_id)
    tokens = outbox_stream.token, all_stream.token
    for stream in (outbox_stream, all_stream):
        await stream.close()
    tag = service.tag("alice")
    await service.store.delete(f"{tag}l:{keys.OUTBOX_LOG}alice", f"{tag}l:{keys.ALL_LOG}")
    expired_stream = await service.subscribe_activities("alice", tokens[0])
    outbox_stream = await service.subscribe_activities(
        "alice", await expired_stream.read_expired_token()
    )
    expired_stream = await service.subscribe_all(tokens[1])
    all_stream = await service.subscribe_all(await expired_stream.read_expired_token())
    last_id = await service.post("alice")
    for stream in (outbox_stream, all_stream):
        assert await stream.read_event() == ("added", last_id)


async def test_stream_of_an_expired_token_begins_with_the_error(service: Service) -> None:
    """No message before the error may say that nothing is missing."""
    feed_stream = await service.subscribe("bob")
    outbox_stream = await service.subscribe_activities("bob")
    await service.post("bob")
    tag = service.tag("bob")
    await service.store.delete(f"{tag}l:bob", f"{tag}l:{keys.OUTBOX_LOG}bob")
    for stream in (
        await service.subscribe("bob", feed_stream.token),
        await service.subscribe_activities("bob", outbox_stream.token),
    ):
        assert (await expect_refusal(stream.call.read())).reason == "RESUME_TOKEN_EXPIRED"


async def test_resume_token_is_refused_by_other_kinds_of_streams(service: Service) -> None:
    """A stream of another entity or viewer refuses the token as well."""
    feed_stream = await service.subscribe("bob")
    outbox_stream = await service.subscribe_activities("bob")
    all_stream = await service.subscribe_all()
    subscriptions = service.subscriptions
    for call in (
        subscriptions.SubscribeFeed(
            SubscribeFeedRequest(user="bob", resume_token=outbox_stream.token)
        ),
        subscriptions.SubscribeFeed(
            SubscribeFeedRequest(user="bob", resume_token=all_stream.token)
        ),
        *(
            subscriptions.SubscribeActivities(
                SubscribeActivitiesRequest(entity=entity, viewer=viewer, resume_token=token)
            )
            for entity, viewer, token in (
                ("bob", "", feed_stream.token),
                ("bob", "", all_stream.token),
                ("alice", "", outbox_stream.token),
                ("bob", "carol", outbox_stream.token),
            )
        ),
        subscriptions.SubscribeAll(SubscribeAllRequest(resume_token=feed_stream.token)),
        subscriptions.SubscribeAll(SubscribeAllRequest(resume_token=outbox_stream.token)),
    ):
        refusal = await expect_refusal(call.read())
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "RESUME_TOKEN_INVALID"
