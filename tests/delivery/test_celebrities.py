"""Celebrities: followers read their outboxes, and every feed stays as if they were pushed."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from activityfeed.v1.activity_service_pb2 import DeliveryState
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.core.pages import Cursor
from tests.serving import Serve, Service, ids_on_page, wait_until

PULLED = DeliveryState.DELIVERY_STATE_PULLED
DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED

#: An entity is a celebrity from 20 followers on, and until it has fewer than 15.
LIMITS = Limits(
    push_chunk=3, inline_audience=1_000, celebrity_threshold=20, celebrity_lower_percent=75
)
NAMES = [f"f{number}" for number in range(30)]


async def pulled_count(service: Service, user: str) -> int:
    return (await service.stats(user)).pulled_count


async def mode(service: Service, author: str = "alice") -> bytes:
    stored_mode = await service.store.hget(keys.edges(service.tag(author), author), keys.MODE)
    return bytes(stored_mode or b"")


def has_mode(
    service: Service, letter: bytes, author: str = "alice"
) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return (await mode(service, author)).startswith(letter)

    return check


@pytest.mark.every_store
async def test_follow_that_reaches_the_threshold_makes_a_celebrity(serve: Serve) -> None:
    """The last follow flips the edges of warm and cold feeds; no publish is needed for it."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES[:19]])
    await service.warm(*NAMES[:10])
    before = await service.publish("alice")
    assert before.delivery.state == DELIVERED
    assert (before.delivery.delivered_count, before.delivery.skipped_cold_count) == (10, 9)
    await service.wait_for_deliveries()
    assert await mode(service) == b""
    await service.follow(NAMES[19], "alice")
    await wait_until(has_mode(service, b"P"))
    for name in NAMES[:20]:
        assert await pulled_count(service, name) == 1
    after = await service.publish("alice")
    assert after.delivery.state == PULLED
    assert (after.delivery.delivered_count, after.delivery.audience_count) == (0, 20)
    assert (await service.delivery(after.activity.id)).state == PULLED
    for name in NAMES[:20]:
        assert await service.feed(name) == [after.activity.id, before.activity.id]
        assert (await service.stats(name)).state
        assert not (await service.verify(name)).differences
    await service.follow("late", "alice")
    assert await pulled_count(service, "late") == 1
    assert await service.feed("late") == [after.activity.id, before.activity.id]
    assert await pulled_count(service, "late") == 1


@pytest.mark.every_store
async def test_live_followers_of_a_celebrity_get_its_activities_at_once(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES])
    await wait_until(has_mode(service, b"P"))
    streams = [await service.subscribe(name) for name in NAMES[:5]]
    stranger = await service.subscribe("stranger")
    posted = await service.post("alice")
    for stream in streams:
        assert await stream.read_event() == ("added", posted)
    await service.delete(posted, "alice")
    for stream in streams:
        assert await stream.read_event() == ("removed", posted)
    own = await service.post("stranger")
    assert await stranger.read_event() == ("added", own)


@pytest.mark.every_store
async def test_celebrity_that_lost_followers_is_pushed_again(serve: Serve) -> None:
    """Below the lower bound pushes resume, and warm feeds hold what was published meanwhile."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES[:20]])
    await service.warm(*NAMES[:10])
    await wait_until(has_mode(service, b"P"))
    posted = await service.post_many("alice", 3)
    for name in NAMES[19:14:-1]:
        await service.unfollow(name, "alice")
    await service.wait_for_deliveries()
    assert (await mode(service)).startswith(b"P")
    await service.unfollow(NAMES[14], "alice")
    await wait_until(has_mode(service, b"U"))
    for name in NAMES[:14]:
        assert await pulled_count(service, name) == 0
    for name in NAMES[:10]:
        assert (await service.stats(name)).entry_count == 3
    after = await service.publish("alice")
    assert after.delivery.state == DELIVERED
    assert (after.delivery.delivered_count, after.delivery.skipped_cold_count) == (10, 4)
    for name in NAMES[:14]:
        assert await service.feed(name) == [after.activity.id, *posted[::-1]]
        assert not (await service.verify(name)).differences
    for name in NAMES[14:20]:
        assert await service.feed(name) == []
    await service.follow("late", "alice")
    assert await pulled_count(service, "late") == 0


async def test_mode_stays_while_followers_come_and_go_at_the_threshold(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES[:20]])
    await wait_until(has_mode(service, b"P"))
    first_mode = await mode(service)
    for _ in range(5):
        await service.unfollow(NAMES[0], "alice")
        await service.follow(NAMES[0], "alice")
        await service.wait_for_deliveries()
        assert await mode(service) == first_mode


async def test_activity_published_to_a_celebrity_is_pulled(serve: Serve) -> None:
    """An activity that others publish `to` a celebrity is not pushed to its followers either."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "repo:x") for name in NAMES])
    await service.warm(*NAMES)
    await wait_until(has_mode(service, b"P", "repo:x"))
    published = await service.publish("alice", to=["repo:x"])
    assert published.delivery.state == PULLED
    assert (published.delivery.delivered_count, published.delivery.audience_count) == (
        0,
        len(NAMES),
    )
    for name in NAMES:
        assert await service.feed(name) == [published.activity.id]


async def test_first_follower_of_a_shard_after_the_flip_pulls_the_celebrity(serve: Serve) -> None:
    """The first follower of its shard comes after the flip has looked at the shards."""
    service = await serve(limits=LIMITS)
    first_shard = service.tag(NAMES[0])
    followers = [f"s{n}" for n in range(2_000) if service.tag(f"s{n}") == first_shard][:20]
    late = next(name for name in NAMES if service.tag(name) != first_shard)
    await service.follow_all([(name, "alice") for name in followers])
    await wait_until(has_mode(service, b"P"))
    await service.warm(late)
    await service.follow(late, "alice")
    assert await pulled_count(service, late) == 1
    posted = await service.post("alice")
    assert await service.feed(late) == [posted]
    assert await pulled_count(service, late) == 1


@pytest.mark.every_store
async def test_walks_stay_exact_while_edges_flip(serve: Serve) -> None:
    """Readers page and an author publishes while its follower count crosses both bounds."""
    service = await serve(limits=LIMITS)
    loyal = NAMES[:13]
    await service.follow_all([(name, "alice") for name in loyal])
    await service.follow_all([(name, "dave") for name in loyal])
    await service.warm(*loyal[:8])
    early = await service.post_many("alice", 30) + await service.post_many("dave", 10)
    both_modes_seen = asyncio.Event()
    posted: list[str] = []
    modes: set[bytes] = set()

    async def follow_and_unfollow() -> None:
        crowd = [f"c{number}" for number in range(12)]
        while len(modes) < 2 or len(posted) < 40:
            await service.follows.BatchFollow(
                BatchFollowRequest(
                    requests=[FollowRequest(follower=name, followee="alice") for name in crowd]
                )
            )
            await asyncio.sleep(0.02)
            modes.add((await mode(service))[:1])
            for name in crowd:
                await service.unfollow(name, "alice")
            await asyncio.sleep(0.02)
            modes.add((await mode(service))[:1])
        both_modes_seen.set()

    async def publish() -> None:
        while not both_modes_seen.is_set():
            posted.append(await service.post("alice"))

    async def read(name: str) -> None:
        while not both_modes_seen.is_set():
            acknowledged = list(posted)
            walked = [
                activity_id
                async for page in service.walk(name, size=7)
                for activity_id in ids_on_page(page)
            ]
            assert all(above > below for above, below in pairwise(walked)), (
                f"the walk of {name} repeats an activity or is out of order"
            )
            assert set(early) <= set(walked)
            assert set(acknowledged) <= set(walked), (
                f"the walk of {name} lacks an acknowledged activity"
            )
            assert len(walked) < 700

    await asyncio.gather(follow_and_unfollow(), publish(), *(read(name) for name in loyal[4:12:2]))
    await service.wait_for_deliveries()
    for name in loyal:
        assert set(await service.feed(name)) == {*early, *posted}
        assert not (await service.verify(name)).differences


@pytest.mark.every_store
async def test_concurrent_readers_share_reads_of_a_hot_outbox(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES])
    await service.warm(*NAMES)
    await wait_until(has_mode(service, b"P"))
    posted = [int(activity_id) for activity_id in await service.post_many("alice", 3)]
    store, feeds = service.server.engine.store, service.server.engine.feeds
    script, reads = store.script, []

    async def counting_script(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "outbox_read":
            reads.append(arguments)
        return await script(name, *arguments, **options)

    monkeypatch.setattr(store, "script", counting_script)
    pages = await asyncio.gather(*(feeds.page(name, Cursor(), 20) for name in NAMES * 5))
    assert all([activity_id for activity_id, _ in page.items] == posted[::-1] for page in pages)
    assert len(reads) <= len(pages) / 10


async def test_delete_is_final_while_many_readers_share_reads(serve: Serve) -> None:
    """A read that begins after the delete's answer does not share the result of an earlier read."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES])
    await service.warm(*NAMES)
    await wait_until(has_mode(service, b"P"))
    for _ in range(5):
        first, deleted, last = await service.post_many("alice", 3)
        earlier_reads = asyncio.gather(*(service.page(name) for name in NAMES * 5))
        await service.delete(deleted, "alice")
        pages = await asyncio.gather(*(service.page(name, size=2) for name in NAMES))
        assert all(ids_on_page(page) == [last, first] for page in pages)
        await earlier_reads


async def test_feed_with_hundreds_of_followees_and_a_hundred_pulled_ones_is_complete(
    serve: Serve,
) -> None:
    """A page looks at a bounded number of ids, however many the outboxes hold."""
    limits = Limits(celebrity_threshold=2, celebrity_lower_percent=50, read_work=2_000)
    service = await serve(limits=limits)
    stars = [f"star{number}" for number in range(100)]
    others = [f"o{number}" for number in range(400)]
    await service.follow_all([("fan", star) for star in stars] + [("bob", star) for star in stars])
    await service.follow_all([("bob", other) for other in others])
    await service.wait_for_deliveries()
    posted = []
    for number in range(3):
        posted += [await service.post(star) for star in stars[number::3]]
    posted += [await service.post(other) for other in others[::20]]
    await service.warm("bob")
    assert await pulled_count(service, "bob") == 100
    fresh = [await service.post(star) for star in stars[:5]]
    expected = sorted(posted + fresh, reverse=True)
    assert ids_on_page(await service.page("bob", size=25)) == expected[:25]
    assert await service.feed("bob", size=20) == expected


@pytest.mark.every_store
async def test_activities_that_a_celebritys_outbox_dropped_leave_feeds(serve: Serve) -> None:
    """A warm feed stored the activities before the flip, and another outbox still holds them."""
    limits = Limits(
        feed_cap=10,
        feed_slack=2,
        outbox_cap=12,
        inline_audience=1_000,
        celebrity_threshold=3,
        celebrity_lower_percent=67,
    )
    service = await serve(limits=limits)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    await service.warm("bob", "carol")
    early = [await service.post("alice", to=["repo:x"]) for _ in range(5)]
    await service.follow("dave", "alice")
    await wait_until(has_mode(service, b"P"))
    assert (await service.stats("bob")).entry_count == 5
    late = await service.post_many("alice", 12)
    assert await service.outbox("repo:x") == early[::-1]
    for name in ("bob", "carol", "dave"):
        assert await service.feed(name, size=4) == late[::-1]
        assert not (await service.verify(name)).differences
        page = await service.page(name, size=100)
        newer_pages = [
            newer_page
            async for newer_page in service.walk_newer(name, page.newer_page_token)
            if ids_on_page(newer_page)
        ]
        assert not newer_pages
