"""Mistakes that feed systems make when they read."""

import asyncio
import random
import time
from collections.abc import Iterable

import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.feed_pb2 import FeedPage, PageEnd

from feedsvc.config import Limits
from feedsvc.core import ids, keys
from tests.serving import Serve, Service, at_ms, expect_refusal, ids_on_page

#: Caps that are small enough for a test to fill, and pages that end early.
SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40, read_work=100)
SIZES = (1, 3, 100)

FEED_END, RETENTION, NEWEST = (
    PageEnd.PAGE_END_FEED_END,
    PageEnd.PAGE_END_RETENTION,
    PageEnd.PAGE_END_NEWEST,
)


def newest_first(activity_ids: Iterable[str]) -> list[str]:
    return sorted(activity_ids, reverse=True)


def ids_of_pages(pages: Iterable[FeedPage]) -> list[str]:
    """Return the ids of the items of all pages, in order."""
    return [activity_id for page in pages for activity_id in ids_on_page(page)]


async def follow_three_authors(service: Service, posts_each: int) -> list[str]:
    """Make bob follow a0, a1 and a2, who take turns; return the ids of his feed, newest first.

    The newest activity is a2's.
    """
    for number in range(3):
        await service.follow("bob", f"a{number}")
    start = time.time_ns() // 1_000_000 - 1_000_000
    activities = [
        Activity(actor=f"a{number % 3}", verb="post", publish_time=at_ms(start + number))
        for number in range(3 * posts_each)
    ]
    return newest_first(await service.post_all(activities))


@pytest.mark.every_store
async def test_walk_neither_repeats_nor_skips_when_something_is_published(service: Service) -> None:
    """Pitfall: offset pages repeat and skip items when something is published."""
    posted = await follow_three_authors(service, 10)
    read_ids: list[str] = []
    async for page in service.walk("bob", size=4):
        read_ids += ids_on_page(page)
        await service.post_many("a1", 3)
    assert read_ids == posted


@pytest.mark.every_store
async def test_walk_neither_repeats_nor_skips_when_something_is_deleted(service: Service) -> None:
    """Pitfall: offset pages repeat and skip items when something is deleted."""
    posted = await follow_three_authors(service, 10)
    actors = {activity_id: (await service.get(activity_id)).actor for activity_id in posted}
    remaining = set(posted)
    read_ids: list[str] = []
    async for page in service.walk("bob", size=4):
        read_ids += ids_on_page(page)
        for activity_id in ids_on_page(page)[-2:]:  # above the cursor
            await service.delete(activity_id, actors[activity_id])
        for activity_id in newest_first(remaining - set(read_ids))[2:3]:  # below the cursor
            await service.delete(activity_id, actors[activity_id])
            remaining.discard(activity_id)
    assert read_ids == newest_first(remaining)


async def test_walk_neither_repeats_nor_skips_when_somebody_is_followed(service: Service) -> None:
    """Pitfall: offset pages repeat and skip items when the reader follows somebody."""
    posted = await follow_three_authors(service, 10)
    for number in range(10):
        await service.post_many(f"b{number}", 5)
    read_ids: list[str] = []
    number = 0
    async for page in service.walk("bob", size=4):
        read_ids += ids_on_page(page)
        await service.follow("bob", f"b{number}")
        number += 1
    assert len(read_ids) == len(set(read_ids))
    assert read_ids == newest_first(read_ids)
    assert set(posted) <= set(read_ids)


async def test_walk_neither_repeats_nor_skips_when_the_feed_is_trimmed(serve: Serve) -> None:
    """Pitfall: offset pages repeat and skip items when the feed is trimmed."""
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 10)
    read_ids: list[str] = []
    async for page in service.walk("bob", size=4):
        read_ids += ids_on_page(page)
        await service.post("a0")  # every third post trims the feed
    assert read_ids == posted


@pytest.mark.every_store
async def test_first_page_is_the_newest(service: Service) -> None:
    """Pitfall: page 0 is the oldest page."""
    posted = await follow_three_authors(service, 10)
    page = await service.page("bob", size=5)
    assert ids_on_page(page) == posted[:5]
    outbox = await service.outbox_page("a2", page_size=2)
    assert [viewed.activity.id for viewed in outbox.activities] == [posted[0], posted[3]]


async def test_negative_page_size_is_refused(service: Service) -> None:
    """Pitfall: a limit of -2 returns everything."""
    await follow_three_authors(service, 10)
    for call in (service.page("bob", size=-2), service.outbox_page("a0", page_size=-2)):
        refusal = await expect_refusal(call)
        assert refusal.rules == {"page_size": "must not be negative"}


async def test_page_size_zero_means_the_default(service: Service) -> None:
    """Pitfall: a limit of 0 crashes."""
    posted = await follow_three_authors(service, 10)
    assert ids_on_page(await service.page("bob", size=0)) == posted[:20]
    outbox = await service.outbox_page("a2", page_size=0)
    assert [viewed.activity.id for viewed in outbox.activities] == posted[0::3]


async def test_huge_page_size_is_capped(service: Service) -> None:
    """Pitfall: a limit of two billion returns everything."""
    posted = await follow_three_authors(service, 50)
    assert ids_on_page(await service.page("bob", size=2**31 - 1)) == posted[:100]


@pytest.mark.every_store
@pytest.mark.parametrize("size", SIZES)
async def test_page_begins_after_the_last_item_of_the_page_before(serve: Serve, size: int) -> None:
    """Pitfall: the cursor includes its item, so that the last item of a page comes again.

    The warm part of the feed holds the cursor, ends at it, or lies above it.
    """
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 12)
    assert await service.feed("bob", size) == posted
    assert await service.outbox("a0", page_size=size) == posted[2::3]
    last_page = await service.page("bob", "", 100)
    token = last_page.newer_page_token
    newer_ids = newest_first(await service.post_many("a0", 30))
    read_ids: list[str] = []
    async for page in service.walk_newer("bob", token, size):
        read_ids = ids_on_page(page) + read_ids
    assert read_ids == newer_ids


@pytest.mark.every_store
async def test_walk_passes_many_items_of_one_millisecond(service: Service) -> None:
    """Pitfall: a walk never gets past many items of the same millisecond.

    300 activities of one millisecond lie in several shards; pages end within the millisecond.
    """
    publish_time = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    authors = [f"a{number}" for number in range(30)]
    await service.follow_all([("bob", author) for author in authors])
    posted = newest_first(
        await service.post_all(
            [
                Activity(actor=author, verb="post", publish_time=publish_time)
                for author in authors
                for _ in range(10)
            ]
        )
    )
    assert {ids.ms_of(int(activity_id)) for activity_id in posted} == {
        publish_time.ToMilliseconds()
    }
    assert await service.feed("bob", size=7) == posted
    await service.make_cold("bob")
    assert await service.feed("bob", size=1) == posted


async def check_walk_past_one_millisecond(service: Service, authors: int, posts_each: int) -> None:
    """Publish many activities of one millisecond and check that a walk brings each once."""
    publish_time = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    names = [f"a{number}" for number in range(authors)]
    await service.follow_all([("bob", name) for name in names])
    posted: list[str] = []
    for name in names:
        posted += await service.post_many(name, posts_each, publish_time=publish_time)
    assert len(set(posted)) == authors * posts_each
    # All ids belong to one shard, whose sequence numbers ran out and carried into the time.
    first_ms, last_ms = ids.ms_of(int(min(posted))), ids.ms_of(int(max(posted)))
    assert first_ms == publish_time.ToMilliseconds()
    assert last_ms - first_ms >= authors * posts_each // ids.SEQUENCES
    expected = newest_first(posted)
    read_ids: list[str] = []
    async for page in service.walk("bob", size=100):
        read_ids += ids_on_page(page)
        assert len(read_ids) <= len(expected)
    assert read_ids == expected
    assert await service.outbox("a0", page_size=100) == newest_first(posted[:posts_each])
    # The next activity stands above them all.
    later_id = await service.post("a1")
    assert ids_on_page(await service.page("bob", size=2)) == [later_id, expected[0]]


async def test_walk_passes_ten_thousand_items_of_one_millisecond(serve: Serve) -> None:
    """Pitfall: a walk never gets past more items of a millisecond than it has ids."""
    service = await serve(limits=Limits(shards=1))
    # A shard has 8,192 ids for a millisecond.
    await check_walk_past_one_millisecond(service, authors=10, posts_each=1_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_walk_passes_200000_items_of_one_millisecond(serve: Serve) -> None:
    """Pitfall: a walk never gets past more items of a millisecond than it has ids."""
    service = await serve(limits=Limits(shards=1))
    await check_walk_past_one_millisecond(service, authors=200, posts_each=1_000)


async def test_outbox_of_one_millisecond_keeps_the_greatest_ids(service: Service) -> None:
    """Pitfall: a trim within one millisecond looks like the end of the feed.

    The outbox keeps the greatest ids of the millisecond and reports that it lost the others.
    """
    publish_time = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    await service.follow("bob", "alice")
    posted = await service.post_many("alice", 1_000, publish_time=publish_time)
    *_, last_page = [page async for page in service.walk("bob", size=100)]
    assert last_page.end == FEED_END
    later_ids = await service.post_many("alice", 200)
    pages = [page async for page in service.walk("bob", size=100)]
    read_ids = ids_of_pages(pages)
    assert read_ids == newest_first(posted + later_ids)[:1_000]
    assert pages[-1].end == RETENTION
    assert pages[-1].incomplete_below == newest_first(posted + later_ids)[1_000]


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_cursor_keeps_the_last_bit_of_an_id(serve: Serve, *, warm: bool) -> None:
    """Pitfall: the cursor subtracts one and loses the other items of the millisecond.

    Neighbouring ids differ only in the shard. The cursor is the whole id, to the last bit.
    """
    service = await serve(limits=SMALL)
    authors = [f"a{number}" for number in range(40)]
    await service.follow_all([("bob", author) for author in authors])
    publish_time = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    posted = [await service.post(author, publish_time=publish_time) for author in authors]
    assert len({ids.shard_of(int(activity_id)) for activity_id in posted}) > 8
    read_ids: list[str] = []
    token = ""
    for _ in posted:
        if not warm:
            await service.make_cold("bob")
        page = await service.page("bob", token, 1)
        read_ids += ids_on_page(page)
        token = page.next_page_token
    assert read_ids == newest_first(posted)
    assert not token


async def test_first_page_shows_the_current_millisecond(service: Service) -> None:
    """Pitfall: the first page hides the current millisecond."""
    await service.follow("bob", "alice")
    for _ in range(100):
        activity_id = await service.post("alice")
        assert ids_on_page(await service.page("bob", size=1)) == [activity_id]
        assert ids_on_page(await service.page("alice", size=1)) == [activity_id]


@pytest.mark.every_store
@pytest.mark.parametrize("size", SIZES)
async def test_pages_below_the_cap_of_the_feed_show_all_authors(serve: Serve, size: int) -> None:
    """Pitfall: pages below the capped part of a feed hold only celebrities."""
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 40)
    async for page in service.walk("bob", size=size):
        assert ids_on_page(page) == posted[: len(page.items)]
        posted = posted[len(page.items) :]
    assert posted == []


@pytest.mark.every_store
@pytest.mark.parametrize("index", [0, 1, 8, 9, 10, 20, 33])
async def test_walk_continues_when_the_item_at_the_cursor_was_deleted(
    serve: Serve, index: int
) -> None:
    """Pitfall: a walk skips an item if the item at its cursor was deleted."""
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 12)
    actors = {activity_id: (await service.get(activity_id)).actor for activity_id in posted}
    first = await service.page("bob", size=index + 1)
    assert ids_on_page(first)[-1] == posted[index]
    next_page = await service.page("bob", first.next_page_token, 1)
    for activity_id in (posted[index], posted[index + 1]):
        await service.delete(activity_id, actors[activity_id])
    lower_pages = [page async for page in service.walk("bob", first.next_page_token, 3)]
    assert ids_of_pages(lower_pages) == posted[index + 2 :]
    newer_pages = [page async for page in service.walk_newer("bob", next_page.newer_page_token, 3)]
    assert ids_of_pages(reversed(newer_pages)) == posted[:index]


@pytest.mark.every_store
async def test_walk_continues_when_the_feed_was_trimmed_above_the_cursor(serve: Serve) -> None:
    """Pitfall: a walk skips an item if the item at its cursor was trimmed from the feed."""
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 12)
    first = await service.page("bob", size=4)
    await service.post_many("a0", 13)  # the stored feed now ends above the cursor
    assert (await service.stats("bob")).floor > posted[3]
    lower_pages = [page async for page in service.walk("bob", first.next_page_token, 3)]
    assert ids_of_pages(lower_pages) == posted[4:]


@pytest.mark.every_store
async def test_walk_continues_when_an_outbox_was_trimmed_above_the_cursor(serve: Serve) -> None:
    """Pitfall: a walk skips an item if the item at its cursor was trimmed from its outbox.

    The page holds all that was not trimmed, and says from where on items may be missing.
    """
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 12)
    cursor_id = posted[3]
    first = await service.page("bob", size=4)
    actor = (await service.get(cursor_id)).actor
    kept_ids = [
        activity_id for activity_id in posted[4:] if (await service.get(activity_id)).actor != actor
    ]
    newer_ids = await service.post_many(actor, 40)
    page = await service.page("bob", first.next_page_token, 100)
    assert ids_on_page(page) == kept_ids
    assert page.end == RETENTION
    assert page.incomplete_below == posted[0]  # the newest of the trimmed activities
    top = await service.page("bob", size=10)
    assert ids_on_page(top) == newest_first(newer_ids)[:10]
    assert top.incomplete_below == ""


@pytest.mark.every_store
async def test_deleted_activities_do_not_shorten_pages(service: Service) -> None:
    """Pitfall: missing bodies make short pages, which clients take for the end."""
    posted = await follow_three_authors(service, 20)
    actors = {activity_id: (await service.get(activity_id)).actor for activity_id in posted}
    await service.warm("bob")
    for activity_id in posted[5:45]:
        await service.delete(activity_id, actors[activity_id])
    pages = [page async for page in service.walk("bob", size=10)]
    assert [len(page.items) for page in pages] == [10, 10]
    assert ids_of_pages(pages) == posted[:5] + posted[45:]


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_empty_page_in_the_middle_of_a_feed_has_tokens(serve: Serve, *, warm: bool) -> None:
    """Pitfall: missing bodies make an empty page, which clients take for the end.

    A page that is empty because it skipped too much has a token in both directions.
    """
    service = await serve(limits=Limits(feed_cap=400, feed_slack=2, outbox_cap=500, read_work=100))
    await service.follow("bob", "alice")
    posted = newest_first(await service.post_many("alice", 350))
    if warm:
        await service.warm("bob")
    await asyncio.gather(*(service.delete(activity_id, "alice") for activity_id in posted[:300]))
    first = await service.page("bob", size=10)
    assert ids_on_page(first) == []
    assert first.end == PageEnd.PAGE_END_MORE
    assert await service.feed("bob", size=10) == posted[300:]
    # Above an empty top page stand newer items, not older ones.
    assert ids_on_page(await service.page("bob", first.newer_page_token)) == []
    newer_id = await service.post("alice")
    newer_pages = [page async for page in service.walk_newer("bob", first.newer_page_token, 10)]
    assert ids_of_pages(newer_pages) == [newer_id]
    assert await service.outbox("alice", page_size=10) == [newer_id, *posted[300:]]


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_newer_walk_brings_what_is_imported_below_a_deleted_activity(
    service: Service, *, warm: bool
) -> None:
    """Pitfall: a reader at the newest item never sees what is imported below a deleted newer item.

    The reader has seen no item above the import, so that a newer page brings it.
    """
    oldest = await service.post("bob", publish_time=at_ms(1_600_000_000_000))
    await service.delete(await service.post("bob"), "bob")
    if warm:
        await service.warm("bob")
    top = await service.page("bob")
    newest = await service.page("bob", top.newer_page_token)
    assert (ids_on_page(top), ids_on_page(newest)) == ([oldest], [])
    imported = await service.post("bob", publish_time=at_ms(1_600_000_000_001))
    for page in (top, newest):
        assert ids_on_page(await service.page("bob", page.newer_page_token)) == [imported]


@pytest.mark.parametrize("size", [5, 10, 30])
async def test_full_last_page_is_the_end(service: Service, size: int) -> None:
    """Pitfall: a full last page promises a next page, which is empty."""
    posted = await follow_three_authors(service, 10)
    pages = [page async for page in service.walk("bob", size=size)]
    assert [len(page.items) for page in pages] == [size] * (30 // size)
    assert pages[-1].end == FEED_END
    # The page is also the last when all activities below it are deleted.
    actors = {activity_id: (await service.get(activity_id)).actor for activity_id in posted}
    for activity_id in posted[size:]:
        await service.delete(activity_id, actors[activity_id])
    page = await service.page("bob", size=size)
    assert ids_on_page(page) == posted[:size]
    assert (page.next_page_token, page.end) == ("", FEED_END)


@pytest.mark.every_store
async def test_empty_feed_has_a_token_to_poll_from(service: Service) -> None:
    """Pitfall: an empty page has no token to poll from."""
    page = await service.page("bob")
    assert (ids_on_page(page), page.next_page_token, page.end) == ([], "", FEED_END)
    assert page.resume_token
    token = page.newer_page_token
    for _ in range(2):
        page = await service.page("bob", token)
        assert (ids_on_page(page), page.next_page_token != "", page.end) == ([], True, NEWEST)
        token = page.newer_page_token
    await service.follow("bob", "alice")
    posted = newest_first(await service.post_many("alice", 5))
    assert ids_on_page(await service.page("bob", token)) == posted


@pytest.mark.every_store
@pytest.mark.parametrize("lost", ["deleted", "gone from the store"])
async def test_one_missing_body_does_not_fail_the_page(service: Service, lost: str) -> None:
    """Pitfall: a missing body raises an error for the whole page."""
    posted = await follow_three_authors(service, 4)
    await service.warm("bob")
    actor = (await service.get(posted[5])).actor
    if lost == "deleted":
        await service.delete(posted[5], actor)
    else:
        await service.store.delete(service.activity_key(posted[5]))
    assert await service.feed("bob") == posted[:5] + posted[6:]
    assert posted[5] not in await service.outbox(actor)


@pytest.mark.every_store
async def test_walk_continues_below_the_trimmed_feed_into_the_outboxes(serve: Serve) -> None:
    """Pitfall: what the feed has trimmed is lost for good.

    A feed that is trimmed at 10 is read to the end of its outboxes, 40 activities each.
    """
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 40)
    assert (await service.stats("bob")).entry_count <= 12
    pages = [page async for page in service.walk("bob", size=9)]
    assert ids_of_pages(pages) == posted
    assert pages[-1].end == FEED_END
    await service.post("a0")
    pages = [page async for page in service.walk("bob", size=9)]
    assert ids_of_pages(pages)[1:] == posted[:-1]
    assert pages[-1].end == RETENTION
    assert pages[-1].incomplete_below == posted[-1]


@pytest.mark.parametrize("state", ["warm", "cold", "pulled"])
async def test_end_by_retention_is_not_reported_as_the_end_of_the_feed(
    serve: Serve, state: str
) -> None:
    """Pitfall: a feed that ends because an outbox was trimmed claims to be complete.

    The page reports the trim in each state of the stored feed.
    """
    service = await serve(limits=Limits(feed_cap=10, feed_slack=0, outbox_cap=10))
    posted = newest_first(await service.post_many("alice", 15))
    if state != "cold":
        await service.warm("bob")
    await service.follow("bob", "alice")
    if state == "pulled":  # as a process leaves the feed that dies in Follow
        feed_key = keys.feed(service.tag("bob"), "bob")
        await service.store.delete(feed_key)
        await service.store.rpush(feed_key, "0")
        await service.store.sadd(keys.pulled(service.tag("bob"), "bob"), "alice")
    page = await service.page("bob", size=100)
    assert ids_on_page(page) == posted[:10]
    assert page.end == RETENTION
    assert page.incomplete_below == posted[10]


@pytest.mark.every_store
async def test_cold_feed_shows_all_activities(service: Service) -> None:
    """Pitfall: a cold feed is simply empty."""
    posted = await follow_three_authors(service, 10)
    assert (await service.stats("bob")).state == 1
    assert await service.feed("bob", size=7) == posted
    await service.make_cold("bob", "a0")
    assert await service.feed("bob", size=7) == posted
    assert await service.feed("a0", size=7) == posted[2::3]


@pytest.mark.every_store
async def test_flushed_feed_shows_all_activities(service: Service) -> None:
    """Pitfall: a feed whose caches were flushed is simply empty.

    The flush comes between two pages of a walk, and takes the loaded scripts as well.
    """
    posted = await follow_three_authors(service, 10)
    read_ids: list[str] = []
    async for page in service.walk("bob", size=4):
        read_ids += ids_on_page(page)
        async for feed_key in service.store.scan_iter(match="*}f:*"):
            await service.store.delete(feed_key)
        await service.store.script_flush()
    assert read_ids == posted


@pytest.mark.every_store
async def test_half_built_feed_shows_all_activities(service: Service) -> None:
    """Pitfall: a feed is simply empty after the process that built it has died."""
    posted = await follow_three_authors(service, 10)
    feed_key = keys.feed(service.tag("bob"), "bob")
    await service.store.rpush(feed_key, "!0123456789abcdef")
    assert await service.feed("bob", size=7) == posted
    newer_id = await service.post("a0")
    assert await service.feed("bob", size=7) == [newer_id, *posted]


async def test_feed_shows_all_activities_after_a_restart(serve: Serve) -> None:
    """Pitfall: a feed is simply empty after a restart of the server."""
    service = await serve()
    posted = await follow_three_authors(service, 10)
    page = await service.page("bob", size=4)
    await service.stop()
    service = await serve()
    lower_pages = [lower async for lower in service.walk("bob", page.next_page_token, 4)]
    assert ids_of_pages([page, *lower_pages]) == posted


@pytest.mark.every_store
async def test_no_page_shows_an_activity_after_its_delete(serve: Serve) -> None:
    """Pitfall: cached pages outlive a delete by a minute.

    Another process deletes the activity than the process that serves the pages.
    """
    server_a, server_b = await serve(), await serve()
    posted = await follow_three_authors(server_a, 3)
    assert await server_b.feed("bob") == posted
    while posted:
        deleted_id = posted.pop(random.randrange(len(posted)))
        await server_a.delete(deleted_id, (await server_b.get(deleted_id)).actor)
        assert await server_b.feed("bob") == posted
        assert (await expect_refusal(server_b.get(deleted_id))).reason == "ACTIVITY_NOT_FOUND"


@pytest.mark.every_store
async def test_no_page_shows_an_author_after_the_unfollow(serve: Serve) -> None:
    """Pitfall: cached pages outlive an unfollow by a minute."""
    server_a, server_b = await serve(), await serve()
    posted = await follow_three_authors(server_a, 3)
    assert await server_b.feed("bob") == posted
    for author in ("a1", "a2", "a0"):
        posted = [
            activity_id
            for activity_id in posted
            if (await server_a.get(activity_id)).actor != author
        ]
        await server_a.unfollow("bob", author)
        assert await server_b.feed("bob") == posted


async def test_only_pages_that_reach_below_a_trim_report_missing_items(serve: Serve) -> None:
    """Pitfall: a page that is complete says that items may be missing."""
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    posted = newest_first(await service.post_many("alice", 60))[:41]
    long_page = await service.page("bob", size=38)
    assert long_page.incomplete_below == ""
    low_page = await service.page("bob", (await service.page("bob", size=36)).next_page_token, 1)
    newer_page = await service.page("bob", low_page.newer_page_token, 100)
    assert (ids_on_page(newer_page), newer_page.end) == (posted[:36], NEWEST)
    assert newer_page.incomplete_below == ""
    last_page = await service.page("bob", low_page.next_page_token, 100)
    assert (ids_on_page(last_page), last_page.end) == (posted[37:40], RETENTION)
    assert last_page.incomplete_below == posted[40]


async def test_walk_towards_newer_items_neither_skips_nor_repeats(serve: Serve) -> None:
    """Pitfall: a walk towards newer items skips or repeats items.

    Walks begin at each item, have pages of several sizes and cross the edge of the stored feed.
    """
    service = await serve(limits=SMALL)
    posted = await follow_three_authors(service, 12)
    token = ""
    for index in range(35):
        page = await service.page("bob", token, 1)
        token = page.next_page_token
        for size in (1, 5, 100):
            newer_pages = [
                newer_page
                async for newer_page in service.walk_newer("bob", page.newer_page_token, size)
            ]
            assert ids_of_pages(reversed(newer_pages)) == posted[:index]
            assert all(newer_page.next_page_token for newer_page in newer_pages)
            # The page below a page begins where that page ends.
            page_below = await service.page("bob", newer_pages[0].next_page_token, 2)
            start = posted.index(ids_on_page(newer_pages[0])[-1]) + 1 if index else 0
            assert ids_on_page(page_below) == posted[start : start + 2]
