"""Mistakes that feed systems make below what is stored of a feed.

What is kept there for a while is small here, and used by whoever follows anybody.
"""

from collections import Counter
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.feed_pb2 import FeedPage, PageEnd

from feedsvc.config import Limits
from feedsvc.core import deep, ids, keys
from feedsvc.core.store import Arg, Store
from tests.serving import Serve, Service, at_ms, ids_of

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40)
START_MS = 1_600_000_000_000


@pytest.fixture
def _deep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "FEW_EDGES", 0)
    monkeypatch.setattr(deep, "LEFT_OUT", 1)
    monkeypatch.setattr(deep, "DEEP_IDS", 20)


pytestmark = pytest.mark.usefixtures("_deep")


async def follows_many(service: Service, authors: int = 10, each: int = 12) -> list[str]:
    """Bob follows so many, who take turns; the ids of his feed, newest first."""
    await service.follow_all([("bob", f"a{number}") for number in range(authors)])
    activities = [
        Activity(
            actor=f"a{number % authors}", verb="post", publish_time=at_ms(START_MS + 10 * number)
        )
        for number in range(authors * each)
    ]
    await service.warm("bob")
    return sorted(await service.post_all(activities), reverse=True)


async def walked(service: Service, token: str = "", size: int = 5) -> list[str]:
    return [one async for page in service.walk("bob", token, size) for one in ids_of(page)]


async def segment(service: Service) -> list[bytes]:
    return await service.store.lrange(keys.deep(service.tag("bob"), "bob"), 0, -1)


async def goes_deep(service: Service, posted: list[str], pages: int = 5) -> FeedPage:
    """Reads so many pages of five, the last of them below what is stored."""
    token, found = "", list[str]()
    for _ in range(pages):
        page = await service.page("bob", token, 5)
        found += ids_of(page)
        token = page.next_page_token
    assert found == posted[: 5 * pages]
    assert not (await segment(service))[0].startswith(b"!")
    return page


async def author_of(service: Service, activity_id: str) -> str:
    return (await service.get(activity_id)).actor


def below(activity_id: str) -> Any:
    """The time right before an activity."""
    return at_ms(ids.ms_of(int(activity_id)) - 5)


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_deep_walk_repeats_or_skips(serve: Serve, size: int) -> None:
    """Down and up again, over the edges of what is stored and of what is kept for a while."""
    service = await serve(limits=SMALL)
    posted = await follows_many(service)
    assert await walked(service, size=size) == posted
    token, found = "", list[str]()
    while len(found) < 100:
        page = await service.page("bob", token, size)
        found, token = found + ids_of(page), page.next_page_token
        assert token or len(found) == len(posted)
    up = [one async for one in service.walk_newer("bob", page.newer_page_token, size)]
    below_page = len(found) - len(page.items)
    assert [one for each in reversed(up) for one in ids_of(each)] == posted[:below_page]


async def count_outboxes(service: Service, read: Any) -> Counter[str]:
    """How many scripts and outboxes a read asks for."""
    counted: Counter[str] = Counter()
    script = Store.script

    async def counting(self: Store, name: str, shards: Any, *arguments: Arg, **rest: Any) -> Any:
        counted[name] += 1
        if name == "outbox_read":
            counted["outboxes"] += (len(arguments) - 1) // 3
        return await script(self, name, shards, *arguments, **rest)

    with patch.object(Store, "script", counting):
        await read
    return counted


async def test_each_deep_page_asks_all_outboxes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty deep pages over many followees: each outbox is asked about three times, not thirty."""
    for name, value in (("FEW_EDGES", 40), ("LEFT_OUT", 16), ("DEEP_IDS", 2_000)):
        monkeypatch.setattr(deep, name, value)
    service = await serve(limits=Limits(feed_cap=100, feed_slack=20, outbox_cap=200))
    authors = 400
    posted = await follows_many(service, authors, 10)
    found: list[str] = []

    async def walk() -> None:
        nonlocal found
        token = ""
        for _ in range(31):
            page = await service.page("bob", token, 100)
            found, token = found + ids_of(page), page.next_page_token

    counted = await count_outboxes(service, walk())
    assert found == posted[:3_100]
    pages = 31 * deep.LEFT_OUT
    assert counted["outboxes"] <= 3 * authors + pages
    assert counted["deep_commit"] == 2


@pytest.mark.every_store
@pytest.mark.parametrize("place", [26, 30, 36, 37, 38, 43, 44, 45, 46, 80])
async def test_late_activity_misses_what_is_kept_below(serve: Serve, place: int) -> None:
    """What is done before most of the feed is told at the place that it belongs to."""
    service = await serve(limits=SMALL)
    posted = await follows_many(service)
    page = await goes_deep(service, posted)
    for author in ("a1", "a1", "a2", "bob"):
        late = await service.post(author, publish_time=below(posted[place]))
        posted = sorted([*posted, late], reverse=True)
        assert await walked(service, page.next_page_token) == posted[25:]


@pytest.mark.every_store
@pytest.mark.parametrize("what", ["unfollow", "delete", "follow", "refollow", "rebuild", "chill"])
async def test_deep_page_outlives_a_change(serve: Serve, what: str) -> None:
    service = await serve(limits=SMALL)
    posted = await follows_many(service)
    others = await service.post_all(
        [
            Activity(actor="carol", verb="post", publish_time=at_ms(START_MS + 10 * number + 3))
            for number in range(0, 120, 4)
        ]
    )
    page = await goes_deep(service, posted)
    gone = await author_of(service, posted[32])
    if what == "delete":
        for one in posted[30:40]:
            await service.delete(one, await author_of(service, one))
        posted = posted[:30] + posted[40:]
    elif what in ("unfollow", "refollow"):
        theirs = {one for one in posted if await author_of(service, one) == gone}
        await service.unfollow("bob", gone)
        posted = [one for one in posted if one not in theirs]
        assert await walked(service, page.next_page_token) == [
            one for one in posted if one < page.items[-1].activity.activity.id
        ]
        if what == "refollow":
            await service.follow("bob", gone)
            posted = sorted([*posted, *theirs], reverse=True)
    elif what == "follow":
        await service.follow("bob", "carol")
        posted = sorted([*posted, *others], reverse=True)
    elif what == "rebuild":
        await service.rebuild("bob")
    else:
        await service.chill("bob")
    for author in ("a2", "bob"):  # where the segment was, and maybe while the feed is cold
        for place in (27, 60):
            late = await service.post(author, publish_time=below(posted[place]))
            posted = sorted([*posted, late], reverse=True)
    expected = [one for one in posted if one < page.items[-1].activity.activity.id]
    assert await walked(service, page.next_page_token) == expected
    assert await walked(service) == posted


@pytest.mark.every_store
@pytest.mark.parametrize("count", [1, 3, 15, 35, 60])
async def test_deep_page_shows_what_outboxes_have_let_go(serve: Serve, count: int) -> None:
    """Also if another outbox, which the reader does not follow, holds it still; and it is said."""
    service = await serve(limits=SMALL)
    posted = await follows_many(service)
    shared = [
        await service.post("a3", to=["stranger"], publish_time=below(posted[place]))
        for place in (20, 40, 60)
    ]
    posted = sorted([*posted, *shared], reverse=True)
    page = await goes_deep(service, posted)
    theirs = [one for one in posted if await author_of(service, one) == "a3"]
    newer = await service.posts("a3", count)
    kept = [*reversed(newer), *theirs][: SMALL.outbox_cap]
    floor = [*reversed(newer), *theirs][SMALL.outbox_cap :][:1]
    expected = [one for one in posted if one not in theirs or one in kept]
    rest = [one async for one in service.walk("bob", page.next_page_token, 5)]
    last = page.items[-1].activity.activity.id
    assert [one for each in rest for one in ids_of(each)] == [one for one in expected if one < last]
    assert rest[-1].incomplete_below == (floor[0] if floor else "")
    for each in rest[:-1]:
        reached = bool(floor) and (ids_of(each)[-1] <= floor[0])
        assert each.incomplete_below == (floor[0] if reached else "")
    assert rest[-1].end == (PageEnd.PAGE_END_RETENTION if floor else PageEnd.PAGE_END_FEED_END)


@pytest.mark.every_store
async def test_deep_page_of_a_celebritys_follower(serve: Serve) -> None:
    """Flipped to PULL and back between pages; it goes on to publish meanwhile."""
    service = await serve(limits=SMALL)
    posted = await follows_many(service)
    engine = service.server.engine
    page = await goes_deep(service, posted)
    last = page.items[-1].activity.activity.id
    for way in ("pull", "push"):
        shard = ids.shard_for("a4", SMALL.shards)
        await engine.store.script("flip_begin", shard, "a4", way)
        await engine.workers.work(everything=True)
        posted += await service.posts("a4", 5)
        late = await service.post("a4", publish_time=below(posted[50]))
        posted = sorted([*posted, late], reverse=True)
        theirs = [one for one in posted if await author_of(service, one) == "a4"]
        for one in theirs[SMALL.outbox_cap :]:
            posted.remove(one)
        assert await walked(service, page.next_page_token) == [one for one in posted if one < last]
        assert await walked(service) == posted


@pytest.mark.every_store
async def test_deep_page_shows_what_a_celebritys_outbox_has_let_go(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A celebrity's followers are not told what it publishes, nor what that pushes out."""
    monkeypatch.setattr(deep, "LEFT_OUT", 0)
    # Whoever was made a celebrity stays so as long as anybody follows.
    service = await serve(limits=replace(SMALL, celebrity_threshold=3, celebrity_lower_percent=34))
    posted = await follows_many(service)
    shared = [
        await service.post("a4", to=["stranger"], publish_time=below(posted[place]))
        for place in (25, 27)
    ]
    posted = sorted([*posted, *shared], reverse=True)
    page = await goes_deep(service, posted)
    last = page.items[-1].activity.activity.id
    assert set(shared) <= {one for one in posted if one < last}
    shard = ids.shard_for("a4", SMALL.shards)
    await service.server.engine.store.script("flip_begin", shard, "a4", "pull")
    await service.server.engine.workers.work(everything=True)
    theirs = {one for one in posted if await author_of(service, one) == "a4"}
    await service.posts("a4", SMALL.outbox_cap)
    expected = [one for one in posted if one < last and one not in theirs]
    assert await walked(service, page.next_page_token) == expected


@pytest.mark.every_store
async def test_segment_that_somebody_is_building_is_not_read(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await follows_many(service)
    page = await goes_deep(service, posted)
    name = keys.deep(service.tag("bob"), "bob")
    await service.store.delete(name)
    await service.store.rpush(name, "!0123456789abcdef", 0)
    assert await walked(service, page.next_page_token) == posted[25:]
    assert len(await segment(service)) == 2
