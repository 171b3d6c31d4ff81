"""Celebrities: read by their followers instead of pushed to them, and nobody notices."""

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
from tests.serving import Serve, Service, ids_of, until

PULLED = DeliveryState.DELIVERY_STATE_PULLED
DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED

#: Twenty followers make a celebrity, with fewer than fifteen it is one no more.
LIMITS = Limits(
    push_chunk=3, inline_audience=1_000, celebrity_threshold=20, celebrity_lower_percent=75
)
NAMES = [f"f{number}" for number in range(30)]


async def pulled(service: Service, name: str) -> int:
    return (await service.stats(name)).pulled_count


async def mode(service: Service, author: str = "alice") -> bytes:
    found = await service.store.hget(keys.edges(service.tag(author), author), keys.MODE)
    return bytes(found or b"")


def is_mode(service: Service, letter: bytes) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return (await mode(service)).startswith(letter)

    return check


@pytest.mark.every_store
async def test_threshold_is_crossed_by_following(serve: Serve) -> None:
    """By the last one that it takes, without a publish; warm feeds and cold ones are flipped."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES[:19]])
    await service.warm(*NAMES[:10])
    before = await service.publish("alice")
    assert before.delivery.state == DELIVERED
    assert (before.delivery.delivered_count, before.delivery.skipped_cold_count) == (10, 9)
    await service.at_rest()
    assert await mode(service) == b""
    await service.follow(NAMES[19], "alice")
    await until(is_mode(service, b"P"))
    for name in NAMES[:20]:
        assert await pulled(service, name) == 1
    after = await service.publish("alice")
    assert after.delivery.state == PULLED
    assert (after.delivery.delivered_count, after.delivery.audience_count) == (0, 20)
    assert (await service.delivery(after.activity.id)).state == PULLED
    for name in NAMES[:20]:
        assert await service.feed(name) == [after.activity.id, before.activity.id]
        assert (await service.stats(name)).state
        assert not (await service.verify(name)).differences
    await service.follow("late", "alice")
    assert await pulled(service, "late") == 1
    assert await service.feed("late") == [after.activity.id, before.activity.id]
    assert await pulled(service, "late") == 1


@pytest.mark.every_store
async def test_followers_that_are_live_get_its_activities_at_once(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES])
    await until(is_mode(service, b"P"))
    streams = [await service.subscribe(name) for name in NAMES[:5]]
    stranger = await service.subscribe("stranger")
    posted = await service.post("alice")
    for stream in streams:
        assert await stream.event() == ("added", posted)
    await service.delete(posted, "alice")
    for stream in streams:
        assert await stream.event() == ("removed", posted)
    own = await service.post("stranger")
    assert await stranger.event() == ("added", own)


@pytest.mark.every_store
async def test_celebrity_no_more(serve: Serve) -> None:
    """Below the lower bound it is pushed again; what came meanwhile is in warm feeds then."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES[:20]])
    await service.warm(*NAMES[:10])
    await until(is_mode(service, b"P"))
    posted = await service.posts("alice", 3)
    for name in NAMES[19:14:-1]:
        await service.unfollow(name, "alice")
    await service.at_rest()
    assert (await mode(service)).startswith(b"P")
    await service.unfollow(NAMES[14], "alice")
    await until(is_mode(service, b"U"))
    for name in NAMES[:14]:
        assert await pulled(service, name) == 0
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
    assert await pulled(service, "late") == 0


async def test_mode_flaps_at_the_threshold(serve: Serve) -> None:
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES[:20]])
    await until(is_mode(service, b"P"))
    seen = await mode(service)
    for _ in range(5):
        await service.unfollow(NAMES[0], "alice")
        await service.follow(NAMES[0], "alice")
        await service.at_rest()
        assert await mode(service) == seen


async def test_share_goes_round_the_celebrity_rule(serve: Serve) -> None:
    """What others publish `to` a celebrity is not pushed to its followers either."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "repo:x") for name in NAMES])
    await service.warm(*NAMES)

    async def flipped() -> bool:
        return (await mode(service, "repo:x")).startswith(b"P")

    await until(flipped)
    published = await service.publish("alice", to=["repo:x"])
    assert published.delivery.state == PULLED
    assert (published.delivery.delivered_count, published.delivery.audience_count) == (
        0,
        len(NAMES),
    )
    for name in NAMES:
        assert await service.feed(name) == [published.activity.id]


async def test_shards_that_come_late_know_the_celebrity(serve: Serve) -> None:
    """A follower in a shard that had none when the flip looked."""
    service = await serve(limits=LIMITS)
    first = service.tag(NAMES[0])
    same = [f"s{n}" for n in range(2_000) if service.tag(f"s{n}") == first][:20]
    other = next(name for name in NAMES if service.tag(name) != first)
    await service.follow_all([(name, "alice") for name in same])
    await until(is_mode(service, b"P"))
    await service.warm(other)
    await service.follow(other, "alice")
    assert await pulled(service, other) == 1
    posted = await service.post("alice")
    assert await service.feed(other) == [posted]
    assert await pulled(service, other) == 1


@pytest.mark.every_store
async def test_pages_while_everything_flips(serve: Serve) -> None:
    """Readers page, publishers publish, followers come and go across both bounds, at once."""
    service = await serve(limits=LIMITS)
    loyal = NAMES[:13]
    await service.follow_all([(name, "alice") for name in loyal])
    await service.follow_all([(name, "dave") for name in loyal])
    await service.warm(*loyal[:8])
    early = await service.posts("alice", 30) + await service.posts("dave", 10)
    over = asyncio.Event()
    posted: list[str] = []
    modes: set[bytes] = set()

    async def come_and_go() -> None:
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
        over.set()

    async def publish() -> None:
        while not over.is_set():
            posted.append(await service.post("alice"))

    async def read(name: str) -> None:
        while not over.is_set():
            known = list(posted)
            seen = [one async for page in service.walk(name, size=7) for one in ids_of(page)]
            assert all(above > below for above, below in pairwise(seen)), "repeated or out of order"
            assert set(early) <= set(seen)
            assert set(known) <= set(seen), "an acknowledged one is missing"
            assert len(seen) < 700

    await asyncio.gather(come_and_go(), publish(), *(read(name) for name in loyal[4:12:2]))
    await service.at_rest()
    for name in loyal:
        assert set(await service.feed(name)) == {*early, *posted}
        assert not (await service.verify(name)).differences


@pytest.mark.every_store
async def test_hot_outbox_is_read_once_for_many(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES])
    await service.warm(*NAMES)
    await until(is_mode(service, b"P"))
    posted = [int(one) for one in await service.posts("alice", 3)]
    store, feeds = service.server.engine.store, service.server.engine.feeds
    script, reads = store.script, []

    async def counted(name: str, *arguments: Any, **rest: Any) -> Any:
        if name == "outbox_read":
            reads.append(arguments)
        return await script(name, *arguments, **rest)

    monkeypatch.setattr(store, "script", counted)
    pages = await asyncio.gather(*(feeds.page(name, Cursor(), 20) for name in NAMES * 5))
    assert all([one for one, _ in page.items] == posted[::-1] for page in pages)
    assert len(reads) <= len(pages) / 10


async def test_delete_is_final_while_many_read(serve: Serve) -> None:
    """Who asks after the answer does not join a read from before it."""
    service = await serve(limits=LIMITS)
    await service.follow_all([(name, "alice") for name in NAMES])
    await service.warm(*NAMES)
    await until(is_mode(service, b"P"))
    for _ in range(5):
        first, gone, last = await service.posts("alice", 3)
        crowd = asyncio.gather(*(service.page(name) for name in NAMES * 5))
        await service.delete(gone, "alice")
        pages = await asyncio.gather(*(service.page(name, size=2) for name in NAMES))
        assert all(ids_of(page) == [last, first] for page in pages)
        await crowd


async def test_thousands_of_followees_a_hundred_of_them_pulled(serve: Serve) -> None:
    """A page looks at a bounded number of ids, whatever the outboxes hold."""
    limits = Limits(celebrity_threshold=2, celebrity_lower_percent=50, read_work=2_000)
    service = await serve(limits=limits)
    stars = [f"star{number}" for number in range(100)]
    others = [f"o{number}" for number in range(400)]
    await service.follow_all([("fan", star) for star in stars] + [("bob", star) for star in stars])
    await service.follow_all([("bob", other) for other in others])
    await service.at_rest()
    posted = []
    for number in range(3):
        posted += [await service.post(star) for star in stars[number::3]]
    posted += [await service.post(other) for other in others[::20]]
    await service.warm("bob")
    assert await pulled(service, "bob") == 100
    fresh = [await service.post(star) for star in stars[:5]]
    expected = sorted(posted + fresh, reverse=True)
    assert ids_of(await service.page("bob", size=25)) == expected[:25]
    assert await service.feed("bob", size=20) == expected


@pytest.mark.every_store
async def test_what_a_celebrity_has_let_go_stays_in_feeds(serve: Serve) -> None:
    """Also if it was stored in them from before, and another outbox still holds it."""
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
    await until(is_mode(service, b"P"))
    assert (await service.stats("bob")).entry_count == 5
    late = await service.posts("alice", 12)
    assert await service.outbox("repo:x") == early[::-1]
    for name in ("bob", "carol", "dave"):
        assert await service.feed(name, size=4) == late[::-1]
        assert not (await service.verify(name)).differences
        page = await service.page(name, size=100)
        newer = [
            one async for one in service.walk_newer(name, page.newer_page_token) if ids_of(one)
        ]
        assert not newer
