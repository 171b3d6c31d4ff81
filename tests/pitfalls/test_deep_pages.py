"""Mistakes that feed systems make on deep pages: pages below the stored part of a feed.

A deep segment caches ids below the warm feed. Its size is small in these tests, and every reader
uses it, however few entities the reader follows.
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
from tests.serving import Serve, Service, at_ms, ids_on_page

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40)
START_MS = 1_600_000_000_000


@pytest.fixture
def _small_deep_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "FEW_EDGES", 0)
    monkeypatch.setattr(deep, "LEFT_OUT", 1)
    monkeypatch.setattr(deep, "DEEP_IDS", 20)


pytestmark = pytest.mark.usefixtures("_small_deep_segments")


async def follow_many_authors(
    service: Service, authors: int = 10, posts_each: int = 12
) -> list[str]:
    """Make bob follow authors who take turns; return the ids of his feed, newest first."""
    await service.follow_all([("bob", f"a{number}") for number in range(authors)])
    activities = [
        Activity(
            actor=f"a{number % authors}", verb="post", publish_time=at_ms(START_MS + 10 * number)
        )
        for number in range(authors * posts_each)
    ]
    await service.warm("bob")
    return sorted(await service.post_all(activities), reverse=True)


async def walk_feed(service: Service, token: str = "", size: int = 5) -> list[str]:
    """Return the ids of bob's feed from `token` to its end."""
    return [
        activity_id
        async for page in service.walk("bob", token, size)
        for activity_id in ids_on_page(page)
    ]


async def segment(service: Service) -> list[bytes]:
    return await service.store.lrange(keys.deep(service.tag("bob"), "bob"), 0, -1)


async def read_deep_pages(service: Service, posted: list[str], pages: int = 5) -> FeedPage:
    """Read `pages` pages of five items; the last page lies below the stored feed."""
    token, read_ids = "", list[str]()
    for _ in range(pages):
        page = await service.page("bob", token, 5)
        read_ids += ids_on_page(page)
        token = page.next_page_token
    assert read_ids == posted[: 5 * pages]
    assert not (await segment(service))[0].startswith(b"!")
    return page


async def author_of(service: Service, activity_id: str) -> str:
    return (await service.get(activity_id)).actor


def time_below(activity_id: str) -> Any:
    """Return a time right before the activity's."""
    return at_ms(ids.ms_of(int(activity_id)) - 5)


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_deep_walk_neither_repeats_nor_skips_an_activity(serve: Serve, size: int) -> None:
    """Pitfall: a walk from the warm feed into its deep segment repeats or skips items.

    The walk goes down to the end, and up again.
    """
    service = await serve(limits=SMALL)
    posted = await follow_many_authors(service)
    assert await walk_feed(service, size=size) == posted
    token, read_ids = "", list[str]()
    while len(read_ids) < 100:
        page = await service.page("bob", token, size)
        read_ids, token = read_ids + ids_on_page(page), page.next_page_token
        assert token or len(read_ids) == len(posted)
    newer_pages = [
        newer_page async for newer_page in service.walk_newer("bob", page.newer_page_token, size)
    ]
    count_above = len(read_ids) - len(page.items)
    newer_ids = [
        activity_id
        for newer_page in reversed(newer_pages)
        for activity_id in ids_on_page(newer_page)
    ]
    assert newer_ids == posted[:count_above]


async def count_scripts_and_outboxes(service: Service, read: Any) -> Counter[str]:
    """Count the scripts, by name, and the outboxes that a read asks for."""
    counted: Counter[str] = Counter()
    run_script = Store.script

    async def count_and_run(
        self: Store, name: str, shards: Any, *arguments: Arg, **options: Any
    ) -> Any:
        counted[name] += 1
        if name == "outbox_read":
            counted["outboxes"] += (len(arguments) - 1) // 3
        return await run_script(self, name, shards, *arguments, **options)

    with patch.object(Store, "script", count_and_run):
        await read
    return counted


async def test_deep_pages_do_not_read_every_outbox_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall: each deep page reads the outboxes of all followees again.

    In thirty deep pages over many followees, each outbox is read about three times, not thirty.
    """
    for setting, value in (("FEW_EDGES", 40), ("LEFT_OUT", 16), ("DEEP_IDS", 2_000)):
        monkeypatch.setattr(deep, setting, value)
    service = await serve(limits=Limits(feed_cap=100, feed_slack=20, outbox_cap=200))
    authors = 400
    posted = await follow_many_authors(service, authors, 10)
    read_ids: list[str] = []

    async def walk() -> None:
        nonlocal read_ids
        token = ""
        for _ in range(31):
            page = await service.page("bob", token, 100)
            read_ids, token = read_ids + ids_on_page(page), page.next_page_token

    counted = await count_scripts_and_outboxes(service, walk())
    assert read_ids == posted[:3_100]
    page_reads = 31 * deep.LEFT_OUT
    assert counted["outboxes"] <= 3 * authors + page_reads
    assert counted["deep_commit"] == 2


@pytest.mark.every_store
@pytest.mark.parametrize("index", [26, 30, 36, 37, 38, 43, 44, 45, 46, 80])
async def test_late_activity_appears_at_its_place_in_the_deep_segment(
    serve: Serve, index: int
) -> None:
    """Pitfall: an activity with an old publish time never enters the cached part of a feed."""
    service = await serve(limits=SMALL)
    posted = await follow_many_authors(service)
    page = await read_deep_pages(service, posted)
    for author in ("a1", "a1", "a2", "bob"):
        late_id = await service.post(author, publish_time=time_below(posted[index]))
        posted = sorted([*posted, late_id], reverse=True)
        assert await walk_feed(service, page.next_page_token) == posted[25:]


@pytest.mark.every_store
@pytest.mark.parametrize("change", ["unfollow", "delete", "follow", "refollow", "rebuild", "chill"])
async def test_deep_page_shows_every_change_since_it_was_cached(serve: Serve, change: str) -> None:
    """Pitfall: cached ids of deep pages outlive an unfollow, a delete, a follow or a rebuild."""
    service = await serve(limits=SMALL)
    posted = await follow_many_authors(service)
    carol_ids = await service.post_all(
        [
            Activity(actor="carol", verb="post", publish_time=at_ms(START_MS + 10 * number + 3))
            for number in range(0, 120, 4)
        ]
    )
    page = await read_deep_pages(service, posted)
    unfollowed = await author_of(service, posted[32])
    if change == "delete":
        for activity_id in posted[30:40]:
            await service.delete(activity_id, await author_of(service, activity_id))
        posted = posted[:30] + posted[40:]
    elif change in ("unfollow", "refollow"):
        author_ids = {
            activity_id
            for activity_id in posted
            if await author_of(service, activity_id) == unfollowed
        }
        await service.unfollow("bob", unfollowed)
        posted = [activity_id for activity_id in posted if activity_id not in author_ids]
        assert await walk_feed(service, page.next_page_token) == [
            activity_id
            for activity_id in posted
            if activity_id < page.items[-1].activity.activity.id
        ]
        if change == "refollow":
            await service.follow("bob", unfollowed)
            posted = sorted([*posted, *author_ids], reverse=True)
    elif change == "follow":
        await service.follow("bob", "carol")
        posted = sorted([*posted, *carol_ids], reverse=True)
    elif change == "rebuild":
        await service.rebuild("bob")
    else:
        await service.make_cold("bob")
    # Publish where the segment was, and where the feed may be cold.
    for author in ("a2", "bob"):
        for index in (27, 60):
            late_id = await service.post(author, publish_time=time_below(posted[index]))
            posted = sorted([*posted, late_id], reverse=True)
    last_id = page.items[-1].activity.activity.id
    expected = [activity_id for activity_id in posted if activity_id < last_id]
    assert await walk_feed(service, page.next_page_token) == expected
    assert await walk_feed(service) == posted


@pytest.mark.every_store
@pytest.mark.parametrize("count", [1, 3, 15, 35, 60])
async def test_deep_page_hides_what_the_outboxes_have_trimmed(serve: Serve, count: int) -> None:
    """Pitfall: a deep page shows an activity that its author's outbox no longer holds.

    The page hides the activity although another outbox, which the reader does not follow, still
    holds it. The page reports from where on items are missing.
    """
    service = await serve(limits=SMALL)
    posted = await follow_many_authors(service)
    shared = [
        await service.post("a3", to=["stranger"], publish_time=time_below(posted[index]))
        for index in (20, 40, 60)
    ]
    posted = sorted([*posted, *shared], reverse=True)
    page = await read_deep_pages(service, posted)
    author_ids = [
        activity_id for activity_id in posted if await author_of(service, activity_id) == "a3"
    ]
    newer_ids = await service.post_many("a3", count)
    kept_ids = [*reversed(newer_ids), *author_ids][: SMALL.outbox_cap]
    trimmed = [*reversed(newer_ids), *author_ids][SMALL.outbox_cap :][:1]
    expected = [
        activity_id
        for activity_id in posted
        if activity_id not in author_ids or activity_id in kept_ids
    ]
    lower_pages = [lower_page async for lower_page in service.walk("bob", page.next_page_token, 5)]
    last_id = page.items[-1].activity.activity.id
    lower_ids = [
        activity_id for lower_page in lower_pages for activity_id in ids_on_page(lower_page)
    ]
    assert lower_ids == [activity_id for activity_id in expected if activity_id < last_id]
    assert lower_pages[-1].incomplete_below == (trimmed[0] if trimmed else "")
    for lower_page in lower_pages[:-1]:
        is_incomplete = bool(trimmed) and (ids_on_page(lower_page)[-1] <= trimmed[0])
        assert lower_page.incomplete_below == (trimmed[0] if is_incomplete else "")
    assert lower_pages[-1].end == (
        PageEnd.PAGE_END_RETENTION if trimmed else PageEnd.PAGE_END_FEED_END
    )


@pytest.mark.every_store
async def test_deep_page_is_right_while_a_followee_flips(serve: Serve) -> None:
    """Pitfall: a deep page loses or repeats the posts of a followee that becomes a celebrity.

    The followee flips to PULL and back between two pages, and publishes meanwhile.
    """
    service = await serve(limits=SMALL)
    posted = await follow_many_authors(service)
    engine = service.server.engine
    page = await read_deep_pages(service, posted)
    last_id = page.items[-1].activity.activity.id
    for mode in ("pull", "push"):
        shard = ids.shard_for("a4", SMALL.shards)
        await engine.store.script("flip_begin", shard, "a4", mode)
        await engine.workers.work(everything=True)
        posted += await service.post_many("a4", 5)
        late_id = await service.post("a4", publish_time=time_below(posted[50]))
        posted = sorted([*posted, late_id], reverse=True)
        author_ids = [
            activity_id for activity_id in posted if await author_of(service, activity_id) == "a4"
        ]
        for activity_id in author_ids[SMALL.outbox_cap :]:
            posted.remove(activity_id)
        assert await walk_feed(service, page.next_page_token) == [
            activity_id for activity_id in posted if activity_id < last_id
        ]
        assert await walk_feed(service) == posted


@pytest.mark.every_store
async def test_deep_page_hides_what_a_celebritys_outbox_has_trimmed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall: a deep page shows what a celebrity's outbox no longer holds.

    A celebrity's publish does not reach its followers, nor does the trim that the publish causes.
    """
    monkeypatch.setattr(deep, "LEFT_OUT", 0)
    # An entity that became a celebrity stays a celebrity for as long as it has followers.
    service = await serve(limits=replace(SMALL, celebrity_threshold=3, celebrity_lower_percent=34))
    posted = await follow_many_authors(service)
    shared = [
        await service.post("a4", to=["stranger"], publish_time=time_below(posted[index]))
        for index in (25, 27)
    ]
    posted = sorted([*posted, *shared], reverse=True)
    page = await read_deep_pages(service, posted)
    last_id = page.items[-1].activity.activity.id
    assert set(shared) <= {activity_id for activity_id in posted if activity_id < last_id}
    shard = ids.shard_for("a4", SMALL.shards)
    await service.server.engine.store.script("flip_begin", shard, "a4", "pull")
    await service.server.engine.workers.work(everything=True)
    author_ids = {
        activity_id for activity_id in posted if await author_of(service, activity_id) == "a4"
    }
    await service.post_many("a4", SMALL.outbox_cap)
    expected = [
        activity_id
        for activity_id in posted
        if activity_id < last_id and activity_id not in author_ids
    ]
    assert await walk_feed(service, page.next_page_token) == expected


@pytest.mark.every_store
async def test_deep_segment_that_a_reader_is_building_is_not_read(serve: Serve) -> None:
    """Pitfall: a reader takes a half-built cache for the end of the feed."""
    service = await serve(limits=SMALL)
    posted = await follow_many_authors(service)
    page = await read_deep_pages(service, posted)
    segment_key = keys.deep(service.tag("bob"), "bob")
    await service.store.delete(segment_key)
    await service.store.rpush(segment_key, "!0123456789abcdef", 0)
    assert await walk_feed(service, page.next_page_token) == posted[25:]
    assert len(await segment(service)) == 2
