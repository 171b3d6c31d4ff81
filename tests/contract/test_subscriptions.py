"""The streams of the contract; for the log of SubscribeFeed itself see pitfalls/test_live.py."""

import asyncio
import gc
import resource
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from activityfeed.v1.activity_service_pb2 import ListActivitiesRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_NEW,
    SUBSCRIPTION_START_RESET,
    SUBSCRIPTION_START_RESUMED,
    AddFeedSubscription,
    GetFeedEventsRequest,
    RemoveFeedSubscription,
    SubscribeActivitiesRequest,
    SubscribeAllRequest,
    SubscribeFeedRequest,
    SubscribeFeedsRequest,
    SubscribeFeedsResponse,
)
from activityfeed.v1.view_pb2 import FlatView, View

from feedsvc.config import Limits
from feedsvc.core import keys
from tests.serving import (
    SECONDS,
    Refusal,
    Serve,
    Service,
    Stream,
    activity_of,
    end_of,
    ids_of,
    refused,
    said,
    until,
)

#: Checkpoints do not come while a test runs.
QUIET = 300
#: Streams that are opened and cancelled: what each left behind would be seen.
CYCLES = 2_000
#: Nobody has more than one follower and is pushed to.
CELEBRITIES = Limits(celebrity_threshold=2)


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=QUIET)


async def with_page(service: Service, user: str, size: int) -> tuple[Stream, list[str]]:
    request = SubscribeFeedRequest(user=user, initial_page_size=size)
    stream = Stream(service.subscriptions.SubscribeFeed(request))
    first = await stream.message()
    assert first.started.start == SUBSCRIPTION_START_NEW
    assert first.started.HasField("page")
    return stream, ids_of(first.started.page)


# The newest page first.


@pytest.mark.every_store
async def test_newest_page_then_changes(service: Service) -> None:
    await service.follow("bob", "alice")
    before = await service.posts("alice", 5)
    stream, shown = await with_page(service, "bob", 3)
    assert shown == before[:1:-1]
    added = await service.post("alice")
    await service.delete(before[-1], "alice")
    assert await stream.events(2) == [("added", added), ("removed", before[-1])]


@pytest.mark.every_store
async def test_what_the_page_shows_is_not_added(serve: Serve) -> None:
    """Not even by a delivery that comes later than the page: a pulled one's, here."""
    service = await serve(checkpoint_seconds=QUIET, limits=CELEBRITIES, workers=0)
    for user in ("bob", "carol", "dave"):
        await service.follow(user, "alice")
    await service.server.engine.workers.work(everything=True)
    stream, _ = await with_page(service, "bob", 10)
    await stream.close()
    posted = await service.post("alice")
    stream, shown = await with_page(service, "bob", 10)
    assert shown == [posted]
    await service.server.engine.workers.work(everything=True)
    own = await service.post("bob")
    assert await stream.event() == ("added", own)


async def test_page_token_of_the_first_page_goes_on(service: Service) -> None:
    before = await service.posts("bob", 5)
    request = SubscribeFeedRequest(user="bob", initial_page_size=2)
    stream = Stream(service.subscriptions.SubscribeFeed(request))
    page = (await stream.message()).started.page
    assert ids_of(await service.page("bob", token=page.next_page_token)) == before[2::-1]


async def test_page_size_is_checked(service: Service) -> None:
    for fields, rule in (
        ({"initial_page_size": -1}, "must not be negative"),
        ({"initial_page_size": 1, "resume_token": "x"}, "must not be given with a resume_token"),
    ):
        request = SubscribeFeedRequest(user="bob", **fields)  # type: ignore[arg-type]
        refusal = await refused(service.subscriptions.SubscribeFeed(request).read())
        assert refusal.rules == {"initial_page_size": rule}


# Outboxes and everything.


@pytest.mark.every_store
async def test_outbox_is_live(service: Service) -> None:
    await service.post("repo:x")
    stream = await service.subscribe_activities("repo:x")
    own = await service.post("repo:x")
    await service.post("alice")
    addressed = await service.post("alice", to=["repo:x"], request_id="r")
    await service.post("alice", to=["repo:x"], request_id="r")
    await service.delete(addressed, "alice")
    await service.delete(own, "repo:x")
    expected = [("added", own), ("added", addressed), ("removed", addressed), ("removed", own)]
    assert await stream.events(4) == expected


@pytest.mark.every_store
async def test_outbox_resumes(serve: Serve) -> None:
    here, there = await serve(checkpoint_seconds=QUIET), await serve(checkpoint_seconds=QUIET)
    stream = await here.subscribe_activities("repo:x")
    tokens, expected = [stream.token], []
    for _ in range(4):
        expected.append(("added", await here.post("alice", to=["repo:x"])))
        assert await stream.event() == expected[-1]
        tokens.append(stream.token)
    for number, token in enumerate(tokens[:-1]):
        resumed = await there.subscribe_activities("repo:x", token)
        assert await resumed.events(4 - number) == expected[number:]


@pytest.mark.every_store
async def test_old_activity_that_is_delivered_again_is_not_told_as_new(service: Service) -> None:
    """The log of an outbox has seen what the outbox holds."""
    posted = await service.post("alice", to=["repo:x"])
    stream = await service.subscribe_activities("repo:x")
    engine = service.server.engine
    await engine.store.script("outbox_add", engine.logs.of_outbox("repo:x").shard, "repo:x", posted)
    last = await service.post("repo:x")
    assert await stream.event() == ("added", last)


@pytest.mark.every_store
async def test_everything_is_live(serve: Serve) -> None:
    here, there = await serve(checkpoint_seconds=QUIET), await serve(checkpoint_seconds=QUIET)
    stream = await here.subscribe_all()
    start = stream.token
    posted = [await there.post(f"u{number}") for number in range(40)]
    posted.append(await there.post("bob", to=["repo:x"], audience=2))
    found = await stream.events(41)
    assert sorted(found) == sorted(("added", one) for one in posted)
    await there.delete(posted[0], "u0")
    assert await stream.event() == ("removed", posted[0])
    resumed = await there.subscribe_all(start)
    again = [("removed", posted[0]), *(("added", one) for one in posted[1:])]
    assert sorted(await resumed.events(41)) == sorted(again)
    middle = resumed.token
    more = [await here.post("u1") for _ in range(5)]
    assert await (await here.subscribe_all(middle)).events(5) == [("added", one) for one in more]


@pytest.mark.every_store
async def test_lost_logs_are_told(service: Service) -> None:
    box, all_ = await service.subscribe_activities("alice"), await service.subscribe_all()
    posted = await service.post("alice")
    for stream in (box, all_):
        assert await stream.event() == ("added", posted)
    tokens = box.token, all_.token
    for stream in (box, all_):
        await stream.close()
    tag = service.tag("alice")
    await service.store.delete(f"{tag}l:{keys.OUTBOX_LOG}alice", f"{tag}l:{keys.ALL_LOG}")
    expired = await service.subscribe_activities("alice", tokens[0])
    box = await service.subscribe_activities("alice", await expired.expired())
    expired = await service.subscribe_all(tokens[1])
    all_ = await service.subscribe_all(await expired.expired())
    last = await service.post("alice")
    for stream in (box, all_):
        assert await stream.event() == ("added", last)


async def test_token_that_has_expired_is_never_resumed(service: Service) -> None:
    """The first that the client hears is the error, not that nothing is missing."""
    feed, box = await service.subscribe("bob"), await service.subscribe_activities("bob")
    await service.post("bob")
    tag = service.tag("bob")
    await service.store.delete(f"{tag}l:bob", f"{tag}l:{keys.OUTBOX_LOG}bob")
    for stream in (
        await service.subscribe("bob", feed.token),
        await service.subscribe_activities("bob", box.token),
    ):
        assert (await refused(stream.call.read())).reason == "RESUME_TOKEN_EXPIRED"


async def test_tokens_are_of_one_kind_of_stream(service: Service) -> None:
    """And of one entity and viewer."""
    feed = await service.subscribe("bob")
    box, all_ = await service.subscribe_activities("bob"), await service.subscribe_all()
    subscriptions = service.subscriptions
    for call in (
        subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob", resume_token=box.token)),
        subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob", resume_token=all_.token)),
        *(
            subscriptions.SubscribeActivities(
                SubscribeActivitiesRequest(entity=entity, viewer=viewer, resume_token=token)
            )
            for entity, viewer, token in (
                ("bob", "", feed.token),
                ("bob", "", all_.token),
                ("alice", "", box.token),
                ("bob", "carol", box.token),
            )
        ),
        subscriptions.SubscribeAll(SubscribeAllRequest(resume_token=feed.token)),
        subscriptions.SubscribeAll(SubscribeAllRequest(resume_token=box.token)),
    ):
        refusal = await refused(call.read())
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "RESUME_TOKEN_INVALID"


# Polling.


async def poll(service: Service, user: str, token: str = "") -> Any:
    return await service.subscriptions.GetFeedEvents(
        GetFeedEventsRequest(user=user, resume_token=token), timeout=SECONDS
    )


@pytest.mark.every_store
async def test_events_by_polling(service: Service) -> None:
    await service.follow("bob", "alice")
    answer = await poll(service, "bob")
    assert not answer.events
    start = answer.resume_token
    answer = await poll(service, "bob", start)
    assert (list(answer.events), answer.more) == ([], False)
    posted = await service.posts("alice", 150)
    found: list[str] = []
    while True:
        answer = await poll(service, "bob", answer.resume_token)
        found += (activity_of(one.added).id for one in answer.events)
        if not answer.more:
            break
    assert sorted(found) == posted
    # The token is one of the stream's too.
    stream = await service.subscribe("bob", answer.resume_token)
    last = await service.post("alice")
    assert await stream.event() == ("added", last)
    answer = await poll(service, "bob", start)
    assert answer.more
    await service.store.delete(f"{service.tag('bob')}l:bob")
    refusal = await refused(poll(service, "bob", start))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
    answer = await poll(service, "bob", refusal.metadata["resume_token"])
    assert not answer.events


@pytest.mark.every_store
async def test_routes_of_what_is_told_together(service: Service) -> None:
    """Some have several routes, of some the one that brought them is not followed any more."""
    for followee in ("alice", "carol", "dave", "repo:x"):
        await service.follow("bob", followee)
    token = (await poll(service, "bob")).resume_token
    both = await service.post("alice", to=["repo:x"])
    other = await service.post("carol", to=["repo:x"])
    await service.post("dave")
    last = await service.post("alice")
    for followee in ("carol", "dave"):
        await service.unfollow("bob", followee)
    events = (await poll(service, "bob", token)).events
    added = [one.added for one in events if one.WhichOneof("event") == "added"]
    assert [(activity_of(one).id, list(one.via)) for one in added] == [
        (both, ["alice", "repo:x"]),
        (other, ["repo:x"]),
        (last, ["alice"]),
    ]


# Many users on one stream.


class Many:
    """An open SubscribeFeeds; each subscription has the name of its user."""

    def __init__(self, service: Service) -> None:
        self.call: Any = service.subscriptions.SubscribeFeeds()
        self.tokens: dict[str, str] = {}
        self._events: list[tuple[str, str, str]] = []

    async def add(self, user: str, token: str = "", **fields: Any) -> None:
        names = {"subscription_id": user, "user": user}
        add = AddFeedSubscription(resume_token=token, **(names | fields))
        await self.call.write(SubscribeFeedsRequest(add=add))

    async def remove(self, subscription_id: str) -> None:
        remove = RemoveFeedSubscription(subscription_id=subscription_id)
        await self.call.write(SubscribeFeedsRequest(remove=remove))

    async def message(self) -> SubscribeFeedsResponse:
        async with asyncio.timeout(SECONDS):
            message: Any = await self.call.read()
        assert message is not grpc.aio.EOF, "the stream has ended"
        if message.resume_token:
            self.tokens[message.subscription_id] = message.resume_token
        assert isinstance(message, SubscribeFeedsResponse)
        return message

    async def event(self) -> tuple[str, str, str]:
        """The next thing that is said: about which subscription, its kind, and the activity."""
        while not self._events:
            message = await self.message()
            name = message.subscription_id
            match message.WhichOneof("message"):
                case "error":
                    self._events.append((name, "error", Refusal.of(message.error).reason))
                case "removed":
                    self._events.append((name, "gone", ""))
                case _:
                    self._events += ((name, *what) for what in said(message))
        return self._events.pop(0)

    async def refusal(self) -> tuple[str, dict[str, str]]:
        """The next message, which must be an error: about which, and the rules that were broken."""
        message = await self.message()
        assert message.HasField("error")
        return message.subscription_id, Refusal.of(message.error).rules

    async def events(self, count: int) -> list[tuple[str, str, str]]:
        return sorted([await self.event() for _ in range(count)])


@pytest.fixture
async def many(service: Service) -> AsyncIterator[Many]:
    stream = Many(service)
    yield stream
    stream.call.cancel()


@pytest.mark.every_store
async def test_many_users_on_one_stream(service: Service, many: Many) -> None:
    users = [f"u{number}" for number in range(100)]
    for user in users:
        await service.follow(user, "alice")
        await many.add(user)
    assert await many.events(100) == sorted((user, "started", "") for user in users)
    posted = await service.post("alice")
    assert await many.events(100) == sorted((user, "added", posted) for user in users)
    await service.delete(posted, "alice")
    assert await many.events(100) == sorted((user, "removed", posted) for user in users)


@pytest.mark.every_store
async def test_users_come_and_go(service: Service, many: Many) -> None:
    for user in ("bob", "carol"):
        await service.follow(user, "alice")
        await many.add(user)
        assert await many.event() == (user, "started", "")
    await many.remove("carol")
    assert await many.event() == ("carol", "gone", "")
    await many.remove("nobody")
    assert await many.event() == ("nobody", "gone", "")
    posted = await service.post("alice")
    assert await many.event() == ("bob", "added", posted)
    # Comes again where it left, and may be begun anew.
    await many.add("carol", many.tokens["carol"])
    assert await many.event() == ("carol", "added", posted)
    await many.add("carol", initial_page_size=5)
    while not (message := await many.message()).started.HasField("page"):
        pass
    assert ids_of(message.started.page) == [posted]
    last = await service.post("alice")
    assert await many.events(2) == [("bob", "added", last), ("carol", "added", last)]


async def test_one_user_may_be_there_several_times(service: Service, many: Many) -> None:
    for name in ("one", "two"):
        await many.add("bob", subscription_id=name)
        assert await many.event() == (name, "started", "")
    posted = await service.post("bob")
    assert await many.events(2) == [("one", "added", posted), ("two", "added", posted)]
    await many.remove("one")
    assert await many.event() == ("one", "gone", "")
    last = await service.post("bob")
    assert await many.event() == ("two", "added", last)


async def test_views_that_a_server_does_not_know_are_refused(service: Service) -> None:
    """Rather than shown as another one."""
    for unknown in (b"\x12\x00", b"\x0a\x02\x0a\x00"):  # another kind; something within flat
        view = View.FromString(unknown)
        rules = {"view": "must be a view that this server knows: flat"}
        for call in (
            service.feeds.GetFeed(GetFeedRequest(user="bob", view=view)),
            service.activities.ListActivities(ListActivitiesRequest(entity="bob", view=view)),
            service.subscriptions.GetFeedEvents(GetFeedEventsRequest(user="bob", view=view)),
            service.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob", view=view)).read(),
            service.subscriptions.SubscribeActivities(
                SubscribeActivitiesRequest(entity="bob", view=view)
            ).read(),
            service.subscriptions.SubscribeAll(SubscribeAllRequest(view=view)).read(),
        ):
            assert (await refused(call)).rules == rules
    flat = View(flat=FlatView())
    page = await service.page("bob", view=flat)
    assert await service.page("bob", view=View()) == page, "the default is flat"


@pytest.mark.every_store
async def test_trouble_of_one_user_does_not_end_the_others(service: Service, many: Many) -> None:
    for user in ("bob", "carol"):
        await service.follow(user, "alice")
        await many.add(user)
        assert await many.event() == (user, "started", "")
    await many.add("dave", many.tokens["bob"])
    assert await many.event() == ("dave", "error", "RESUME_TOKEN_INVALID")
    await many.add("erin\n")
    assert await many.event() == ("erin\n", "error", "INVALID_FIELD")
    # A log is lost while the stream is open.
    await service.store.delete(f"{service.tag('carol')}l:carol")
    posted = await service.post("alice")
    service.server.engine.live._wake_all()
    assert await many.events(2) == [("bob", "added", posted), ("carol", "reset", "")]
    last = await service.post("alice")
    assert await many.events(2) == [("bob", "added", last), ("carol", "added", last)]
    # And one that was lost before.
    token = many.tokens["bob"]
    await many.remove("bob")
    assert await many.event() == ("bob", "gone", "")
    await service.store.delete(f"{service.tag('bob')}l:bob")
    await many.add("bob", token)
    assert await many.event() == ("bob", "reset", "")


@pytest.mark.every_store
async def test_log_that_cannot_be_read_is_one_users_trouble(service: Service, many: Many) -> None:
    """Although it is read by one call with those of others."""
    for user in ("bob", "carol"):
        await service.follow(user, "alice")
        await many.add(user)
        assert await many.event() == (user, "started", "")
    alone = await service.subscribe("carol")
    await service.store.set(f"{service.tag('carol')}l:carol", "secret")
    service.server.engine.live._wake_all()
    assert await many.event() == ("carol", "error", "INTERNAL")
    refusal = await end_of(alone)
    assert (refusal.code, refusal.message) == (grpc.StatusCode.INTERNAL, "internal error")
    posted = await service.post("bob")
    assert await many.event() == ("bob", "added", posted)


async def test_more_users_than_may_be(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=QUIET, max_subscriptions=2)
    many = Many(service)
    for user in ("a", "b", "c"):
        await many.add(user)
    found = await many.events(3)
    assert ("c", "error", "TOO_MANY_SUBSCRIPTIONS") in found
    await many.remove("a")
    assert await many.event() == ("a", "gone", "")
    await many.add("c")
    assert await many.event() == ("c", "started", "")
    many.call.cancel()


async def test_half_closed_stream_goes_on(service: Service, many: Many) -> None:
    await many.add("bob")
    assert await many.event() == ("bob", "started", "")
    await many.call.done_writing()
    posted = await service.post("bob")
    assert await many.event() == ("bob", "added", posted)


async def test_requests_about_nobody_do_not_end_the_others(service: Service, many: Many) -> None:
    await service.follow("bob", "alice")
    await many.add("bob")
    assert await many.event() == ("bob", "started", "")
    await many.call.write(SubscribeFeedsRequest())
    assert await many.refusal() == ("", {"action": "is required"})
    await many.add("", subscription_id="s")
    assert await many.refusal() == ("s", {"add.user": "is required"})
    await many.add("bob", subscription_id="")
    assert await many.refusal() == ("", {"add.subscription_id": "is required"})
    await many.remove("")
    assert await many.refusal() == ("", {"remove.subscription_id": "is required"})
    # A name that no subscription can have is not sent back if it is long.
    await many.add("bob", subscription_id="x" * 100_000)
    name, rules = await many.refusal()
    assert (name, list(rules)) == ("", ["add.subscription_id"])
    posted = await service.post("alice")
    assert await many.event() == ("bob", "added", posted)


@pytest.mark.every_store
async def test_user_who_cannot_be_added_does_not_end_the_others(
    service: Service, many: Many
) -> None:
    """Because the store holds something else where the user's feed should be.

    A log that nobody has a lease of is begun anew, whatever it was.
    """
    await service.follow("bob", "alice")
    await many.add("bob")
    assert await many.event() == ("bob", "started", "")
    await service.store.set(f"{service.tag('carol')}l:carol", "secret")
    await service.store.set(f"{service.tag('dave')}f:dave", "secret")
    await many.add("carol")
    await many.add("dave")
    assert sorted(await many.events(2)) == [
        ("carol", "started", ""),
        ("dave", "error", "INTERNAL"),
    ]
    posted = await service.post("alice")
    assert await many.event() == ("bob", "added", posted)


async def test_lost_log_is_answered_with_a_reset_at_once(service: Service, many: Many) -> None:
    """Never with the token that was sent, as if the log still reached back to it."""
    await many.add("bob")
    assert await many.event() == ("bob", "started", "")
    token = many.tokens["bob"]
    await many.remove("bob")
    assert await many.event() == ("bob", "gone", "")
    for _ in range(3):
        await service.post("bob")
    log = f"{service.tag('bob')}l:bob"
    await service.store.xtrim(log, maxlen=1, approximate=False)
    await many.add("bob", token)
    message = await many.message()
    assert message.started.start == SUBSCRIPTION_START_RESET
    assert message.resume_token not in {"", token}


async def test_resumed_user_is_answered_though_nothing_has_happened(
    service: Service, many: Many
) -> None:
    stream = await service.subscribe("bob")
    await many.add("bob", stream.token)
    message = await many.message()
    assert (message.subscription_id, message.resume_token) == ("bob", stream.token)
    assert message.started.start == SUBSCRIPTION_START_RESUMED


async def test_quiet_stream_says_that_it_lives(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=0.05)
    many = Many(service)
    await many.add("bob")
    assert (await many.message()).subscription_id == "bob"
    alive = await many.message()
    assert (alive.subscription_id, alive.HasField("heartbeat")) == ("", True)
    many.call.cancel()


# How streams end.


async def test_draining_streams_say_where_they_are(serve: Serve) -> None:
    """Each with a last token; those of one server not all at once."""
    service = await serve(checkpoint_seconds=QUIET, drain_seconds=2)
    await service.follow("bob", "alice")
    many, streams = Many(service), [await service.subscribe("bob") for _ in range(20)]
    await many.add("bob")
    assert await many.event() == ("bob", "started", "")
    posted = await service.post("alice")
    for stream in streams:
        assert await stream.event() == ("added", posted)
    assert await many.event() == ("bob", "added", posted)
    ended: list[Refusal] = []

    async def read(stream: Stream | Many) -> None:
        ended.append(await end_of(stream))

    reading = [asyncio.create_task(read(stream)) for stream in (*streams, many)]
    engine = service.server.engine
    engine.live.drain(1)

    async def some_ended() -> bool:
        return len(ended) > 0

    await until(some_ended)
    assert len(ended) < 21
    await asyncio.gather(*reading)
    assert {one.reason for one in ended} == {"DRAINING"}
    assert {one.code for one in ended} == {grpc.StatusCode.UNAVAILABLE}
    other = await serve(checkpoint_seconds=QUIET)
    last = await other.post("alice")
    for token in (streams[0].token, streams[-1].token, many.tokens["bob"]):
        assert await (await other.subscribe("bob", token)).event() == ("added", last)


async def test_streams_have_an_age(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=0.1, stream_seconds=1)
    await service.follow("bob", "alice")
    for stream in (await service.subscribe("bob"), await service.subscribe_all()):
        refusal = await end_of(stream)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_EXPIRED")
        assert refusal.retry_ms is not None


async def test_more_streams_than_may_be(serve: Serve) -> None:
    """Each counts until its call has ended, and no refused one does."""
    service = await serve(checkpoint_seconds=QUIET, max_streams=2)
    streams = [await service.subscribe("bob"), await service.subscribe_all()]
    for _ in range(3):
        refusal = await end_of(
            Stream(service.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob")))
        )
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "TOO_MANY_STREAMS")
        assert refusal.retry_ms is not None
    await streams[0].close()

    async def room() -> bool:
        stream = Stream(service.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob")))
        try:
            return await stream.event() == ("started", "")
        except grpc.aio.AioRpcError:
            return False

    await until(room)


async def test_stream_that_is_not_read_is_ended(serve: Serve) -> None:
    """And what it had is free again, while its client still does not read."""
    limits = Limits(log_cap=5_000)
    service = await serve(checkpoint_seconds=QUIET, write_seconds=0.5, limits=limits)
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    readers = service.server.engine.live._cursors
    assert readers
    for _ in range(8):
        await service.posts("alice", 250, content="x" * 8_192)

    async def ended() -> bool:
        return not readers

    await until(ended)
    refusal = await end_of(stream)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STREAM_NOT_READ")
    last = await service.post("alice")
    resumed = await service.subscribe("bob", stream.token)
    assert (await resumed.until(("added", last)))[-1] == ("added", last)


async def cycles(service: Service, count: int) -> None:
    """Opens streams, and cancels them, some at a time."""

    async def cycle(number: int) -> None:
        stream = await service.subscribe(f"u{number % 50}")
        await stream.close()

    for first in range(0, count, 50):
        await asyncio.gather(*(cycle(number) for number in range(first, first + 50)))


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("count", [CYCLES, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_cancelled_streams_leave_nothing(service: Service, count: int) -> None:
    """No tasks, memory or keys."""
    await cycles(service, 1_000)
    live = service.server.engine.live

    async def none_left() -> bool:
        return not live._cursors and not live._streams

    await until(none_left)
    gc.collect()
    before = len(asyncio.all_tasks()), len(await service.store.keys()), resident()
    await cycles(service, count)
    await until(none_left)
    gc.collect()
    assert len(asyncio.all_tasks()) <= before[0] + 2
    assert len(await service.store.keys()) == before[1]
    # A stream has more than 10 KB; what stayed of each would come to that.
    assert (resident() - before[2]) * 1024 < count * 2_000
