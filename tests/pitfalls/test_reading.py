"""Mistakes that feed systems make when they read."""

import asyncio
import random
import time
from collections.abc import Iterable

import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.feed_pb2 import PageEnd

from feedsvc.config import Limits
from feedsvc.core import ids, keys
from tests.serving import Serve, Service, at_ms, ids_of, refused

#: Caps that a test can fill, and pages that end early.
SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40, read_work=100)
SIZES = (1, 3, 100)

FEED_END, RETENTION, NEWEST = (
    PageEnd.PAGE_END_FEED_END,
    PageEnd.PAGE_END_RETENTION,
    PageEnd.PAGE_END_NEWEST,
)


def newest_first(some: Iterable[str]) -> list[str]:
    return sorted(some, reverse=True)


async def follows_three(service: Service, each: int) -> list[str]:
    """Makes bob follow a0, a1 and a2, who take turns; all ids of his feed, a2's newest first."""
    for number in range(3):
        await service.follow("bob", f"a{number}")
    start = time.time_ns() // 1_000_000 - 1_000_000
    activities = [
        Activity(actor=f"a{n % 3}", verb="post", publish_time=at_ms(start + n))
        for n in range(3 * each)
    ]
    return newest_first(await service.post_all(activities))


@pytest.mark.every_store
async def test_offset_pages_repeat_and_skip_when_something_is_published(service: Service) -> None:
    posted = await follows_three(service, 10)
    found: list[str] = []
    async for page in service.walk("bob", size=4):
        found += ids_of(page)
        await service.posts("a1", 3)
    assert found == posted


@pytest.mark.every_store
async def test_offset_pages_repeat_and_skip_when_something_is_deleted(service: Service) -> None:
    posted = await follows_three(service, 10)
    actors = {one: (await service.get(one)).actor for one in posted}
    left = set(posted)
    found: list[str] = []
    async for page in service.walk("bob", size=4):
        found += ids_of(page)
        for one in ids_of(page)[-2:]:  # above the cursor
            await service.delete(one, actors[one])
        for one in newest_first(left - set(found))[2:3]:  # below it
            await service.delete(one, actors[one])
            left.discard(one)
    assert found == newest_first(left)


async def test_offset_pages_repeat_and_skip_when_somebody_is_followed(service: Service) -> None:
    posted = await follows_three(service, 10)
    for number in range(10):
        await service.posts(f"b{number}", 5)
    found: list[str] = []
    number = 0
    async for page in service.walk("bob", size=4):
        found += ids_of(page)
        await service.follow("bob", f"b{number}")
        number += 1
    assert len(found) == len(set(found))
    assert found == newest_first(found)
    assert set(posted) <= set(found)


async def test_offset_pages_repeat_and_skip_when_the_feed_is_trimmed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 10)
    found: list[str] = []
    async for page in service.walk("bob", size=4):
        found += ids_of(page)
        await service.post("a0")  # every third one trims the feed
    assert found == posted


@pytest.mark.every_store
async def test_page_zero_is_the_oldest_page(service: Service) -> None:
    posted = await follows_three(service, 10)
    page = await service.page("bob", size=5)
    assert ids_of(page) == posted[:5]
    outbox = await service.outbox_page("a2", page_size=2)
    assert [one.activity.id for one in outbox.activities] == [posted[0], posted[3]]


async def test_limit_of_minus_two_returns_everything(service: Service) -> None:
    await follows_three(service, 10)
    for call in (service.page("bob", size=-2), service.outbox_page("a0", page_size=-2)):
        refusal = await refused(call)
        assert refusal.rules == {"page_size": "must not be negative"}


async def test_limit_of_zero_crashes(service: Service) -> None:
    posted = await follows_three(service, 10)
    assert ids_of(await service.page("bob", size=0)) == posted[:20]
    outbox = await service.outbox_page("a2", page_size=0)
    assert [one.activity.id for one in outbox.activities] == posted[0::3]


async def test_limit_of_two_billion_returns_everything(service: Service) -> None:
    posted = await follows_three(service, 50)
    assert ids_of(await service.page("bob", size=2**31 - 1)) == posted[:100]


@pytest.mark.every_store
@pytest.mark.parametrize("size", SIZES)
async def test_cursor_includes_its_item(serve: Serve, size: int) -> None:
    """Whether the warm part holds the cursor, ends at it or has it below."""
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 12)
    assert await service.feed("bob", size) == posted
    assert await service.outbox("a0", page_size=size) == posted[2::3]
    oldest = await service.page("bob", "", 100)
    token = oldest.newer_page_token
    newer = newest_first(await service.posts("a0", 30))
    found: list[str] = []
    async for page in service.walk_newer("bob", token, size):
        found = ids_of(page) + found
    assert found == newer


@pytest.mark.every_store
async def test_many_items_in_one_millisecond_never_end(service: Service) -> None:
    """300 activities of one millisecond, in several shards, in pages that end within it."""
    noon = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    authors = [f"a{number}" for number in range(30)]
    await service.follow_all([("bob", author) for author in authors])
    posted = newest_first(
        await service.post_all(
            [
                Activity(actor=author, verb="post", publish_time=noon)
                for author in authors
                for _ in range(10)
            ]
        )
    )
    assert {ids.ms_of(int(one)) for one in posted} == {noon.ToMilliseconds()}
    assert await service.feed("bob", size=7) == posted
    await service.chill("bob")
    assert await service.feed("bob", size=1) == posted


async def check_one_millisecond(service: Service, authors: int, each: int) -> None:
    noon = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    names = [f"a{number}" for number in range(authors)]
    await service.follow_all([("bob", name) for name in names])
    posted: list[str] = []
    for name in names:
        posted += await service.posts(name, each, publish_time=noon)
    assert len(set(posted)) == authors * each
    # Of one shard: the sequences of the millisecond ran out, and carried.
    first, last = ids.ms_of(int(min(posted))), ids.ms_of(int(max(posted)))
    assert first == noon.ToMilliseconds()
    assert last - first >= authors * each // ids.SEQUENCES
    expected = newest_first(posted)
    found: list[str] = []
    async for page in service.walk("bob", size=100):
        found += ids_of(page)
        assert len(found) <= len(expected)
    assert found == expected
    assert await service.outbox("a0", page_size=100) == newest_first(posted[:each])
    # What comes after it comes above it.
    later = await service.post("a1")
    assert ids_of(await service.page("bob", size=2)) == [later, expected[0]]


async def test_ten_thousand_in_one_millisecond_never_end(serve: Serve) -> None:
    service = await serve(limits=Limits(shards=1))
    await check_one_millisecond(service, authors=10, each=1_000)  # a shard has 8,192 ids for it


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_200000_in_one_millisecond_never_end(serve: Serve) -> None:
    service = await serve(limits=Limits(shards=1))
    await check_one_millisecond(service, authors=200, each=1_000)


async def test_one_author_in_one_millisecond_never_ends(service: Service) -> None:
    """The outbox keeps the greatest ids of the millisecond, and says that it lost the others."""
    noon = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    await service.follow("bob", "alice")
    posted = await service.posts("alice", 1_000, publish_time=noon)
    *_, last = [page async for page in service.walk("bob", size=100)]
    assert last.end == FEED_END
    later = await service.posts("alice", 200)
    found = [page async for page in service.walk("bob", size=100)]
    assert [one for page in found for one in ids_of(page)] == newest_first(posted + later)[:1_000]
    assert found[-1].end == RETENTION
    assert found[-1].incomplete_below == newest_first(posted + later)[1_000]


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_cursor_minus_one_loses_the_rest_of_the_millisecond(
    serve: Serve, *, warm: bool
) -> None:
    """Neighbouring ids that differ in the shard only: the place is the id, to the last bit."""
    service = await serve(limits=SMALL)
    authors = [f"a{number}" for number in range(40)]
    await service.follow_all([("bob", author) for author in authors])
    noon = at_ms(time.time_ns() // 1_000_000 - 1_000_000)
    posted = [await service.post(author, publish_time=noon) for author in authors]
    assert len({ids.shard_of(int(one)) for one in posted}) > 8
    found: list[str] = []
    token = ""
    for _ in posted:
        if not warm:
            await service.chill("bob")
        page = await service.page("bob", token, 1)
        found += ids_of(page)
        token = page.next_page_token
    assert found == newest_first(posted)
    assert not token


async def test_first_page_hides_the_current_millisecond(service: Service) -> None:
    await service.follow("bob", "alice")
    for _ in range(100):
        posted = await service.post("alice")
        assert ids_of(await service.page("bob", size=1)) == [posted]
        assert ids_of(await service.page("alice", size=1)) == [posted]


@pytest.mark.every_store
@pytest.mark.parametrize("size", SIZES)
async def test_once_the_capped_part_runs_out_older_pages_lack_authors(
    serve: Serve, size: int
) -> None:
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 40)
    async for page in service.walk("bob", size=size):
        assert ids_of(page) == posted[: len(page.items)]
        posted = posted[len(page.items) :]
    assert posted == []


@pytest.mark.every_store
@pytest.mark.parametrize("place", [0, 1, 8, 9, 10, 20, 33])
async def test_pivot_of_the_cursor_was_deleted(serve: Serve, place: int) -> None:
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 12)
    actors = {one: (await service.get(one)).actor for one in posted}
    first = await service.page("bob", size=place + 1)
    assert ids_of(first)[-1] == posted[place]
    above = await service.page("bob", first.next_page_token, 1)
    for one in (posted[place], posted[place + 1]):
        await service.delete(one, actors[one])
    rest = [
        one async for page in service.walk("bob", first.next_page_token, 3) for one in ids_of(page)
    ]
    assert rest == posted[place + 2 :]
    newer = [page async for page in service.walk_newer("bob", above.newer_page_token, 3)]
    assert [one for page in reversed(newer) for one in ids_of(page)] == posted[:place]


@pytest.mark.every_store
async def test_pivot_of_the_cursor_was_trimmed_from_the_feed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 12)
    first = await service.page("bob", size=4)
    await service.posts("a0", 13)  # what is stored of the feed now ends above the cursor
    assert (await service.stats("bob")).floor > posted[3]
    rest = [
        one async for page in service.walk("bob", first.next_page_token, 3) for one in ids_of(page)
    ]
    assert rest == posted[4:]


@pytest.mark.every_store
async def test_pivot_of_the_cursor_was_trimmed_from_its_outbox(serve: Serve) -> None:
    """What was not trimmed is all there, and the page says from where on something may lack."""
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 12)
    pivot = posted[3]
    first = await service.page("bob", size=4)
    actor = (await service.get(pivot)).actor
    keep = [one for one in posted[4:] if (await service.get(one)).actor != actor]
    newer = await service.posts(actor, 40)
    page = await service.page("bob", first.next_page_token, 100)
    assert ids_of(page) == keep
    assert page.end == RETENTION
    assert page.incomplete_below == posted[0]  # the newest that was let go
    top = await service.page("bob", size=10)
    assert ids_of(top) == newest_first(newer)[:10]
    assert top.incomplete_below == ""


@pytest.mark.every_store
async def test_missing_bodies_make_short_pages(service: Service) -> None:
    posted = await follows_three(service, 20)
    actors = {one: (await service.get(one)).actor for one in posted}
    await service.warm("bob")
    for one in posted[5:45]:
        await service.delete(one, actors[one])
    pages = [page async for page in service.walk("bob", size=10)]
    assert [len(page.items) for page in pages] == [10, 10]
    assert [one for page in pages for one in ids_of(page)] == posted[:5] + posted[45:]


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_missing_bodies_make_empty_pages_taken_for_the_end(
    serve: Serve, *, warm: bool
) -> None:
    """A page that is empty because there was too much to skip has a token, in both directions."""
    service = await serve(limits=Limits(feed_cap=400, feed_slack=2, outbox_cap=500, read_work=100))
    await service.follow("bob", "alice")
    posted = newest_first(await service.posts("alice", 350))
    if warm:
        await service.warm("bob")
    await asyncio.gather(*(service.delete(one, "alice") for one in posted[:300]))
    first = await service.page("bob", size=10)
    assert ids_of(first) == []
    assert first.end == PageEnd.PAGE_END_MORE
    assert await service.feed("bob", size=10) == posted[300:]
    # Above an empty page at the top is what is newer, not what is older.
    assert ids_of(await service.page("bob", first.newer_page_token)) == []
    newer = await service.post("alice")
    found = [page async for page in service.walk_newer("bob", first.newer_page_token, 10)]
    assert [one for page in found for one in ids_of(page)] == [newer]
    assert await service.outbox("alice", page_size=10) == [newer, *posted[300:]]


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_newer_walk_passes_by_what_is_imported_below_a_deleted_one(
    service: Service, *, warm: bool
) -> None:
    """Who has come to the newest is told later what was done before the deleted one was."""
    oldest = await service.post("bob", publish_time=at_ms(1_600_000_000_000))
    await service.delete(await service.post("bob"), "bob")
    if warm:
        await service.warm("bob")
    top = await service.page("bob")
    newest = await service.page("bob", top.newer_page_token)
    assert (ids_of(top), ids_of(newest)) == ([oldest], [])
    imported = await service.post("bob", publish_time=at_ms(1_600_000_000_001))
    for page in (top, newest):
        assert ids_of(await service.page("bob", page.newer_page_token)) == [imported]


@pytest.mark.parametrize("size", [5, 10, 30])
async def test_full_last_page_promises_a_next_one_that_is_empty(
    service: Service, size: int
) -> None:
    posted = await follows_three(service, 10)
    pages = [page async for page in service.walk("bob", size=size)]
    assert [len(page.items) for page in pages] == [size] * (30 // size)
    assert pages[-1].end == FEED_END
    # Nor if all that there is below the page was deleted.
    actors = {one: (await service.get(one)).actor for one in posted}
    for one in posted[size:]:
        await service.delete(one, actors[one])
    page = await service.page("bob", size=size)
    assert ids_of(page) == posted[:size]
    assert (page.next_page_token, page.end) == ("", FEED_END)


@pytest.mark.every_store
async def test_empty_page_has_no_token_to_poll_from(service: Service) -> None:
    page = await service.page("bob")
    assert (ids_of(page), page.next_page_token, page.end) == ([], "", FEED_END)
    assert page.resume_token
    token = page.newer_page_token
    for _ in range(2):
        page = await service.page("bob", token)
        assert (ids_of(page), page.next_page_token != "", page.end) == ([], True, NEWEST)
        token = page.newer_page_token
    await service.follow("bob", "alice")
    posted = newest_first(await service.posts("alice", 5))
    assert ids_of(await service.page("bob", token)) == posted


@pytest.mark.every_store
@pytest.mark.parametrize("lost", ["deleted", "gone from the store"])
async def test_one_missing_body_raises_for_the_whole_page(service: Service, lost: str) -> None:
    posted = await follows_three(service, 4)
    await service.warm("bob")
    actor = (await service.get(posted[5])).actor
    if lost == "deleted":
        await service.delete(posted[5], actor)
    else:
        await service.store.delete(service.activity_key(posted[5]))
    assert await service.feed("bob") == posted[:5] + posted[6:]
    assert posted[5] not in await service.outbox(actor)


@pytest.mark.every_store
async def test_trimmed_means_lost_for_good(serve: Serve) -> None:
    """A feed that is trimmed at 10 is read to the end of its outboxes, 40 each."""
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 40)
    assert (await service.stats("bob")).entry_count <= 12
    pages = [page async for page in service.walk("bob", size=9)]
    assert [one for page in pages for one in ids_of(page)] == posted
    assert pages[-1].end == FEED_END
    await service.post("a0")
    pages = [page async for page in service.walk("bob", size=9)]
    assert [one for page in pages for one in ids_of(page)][1:] == posted[:-1]
    assert pages[-1].end == RETENTION
    assert pages[-1].incomplete_below == posted[-1]


@pytest.mark.parametrize("state", ["warm", "cold", "pulled"])
async def test_end_by_retention_is_told_as_the_end_of_the_feed(serve: Serve, state: str) -> None:
    """Whatever is stored of the feed: that the followee's outbox was trimmed is told."""
    service = await serve(limits=Limits(feed_cap=10, feed_slack=0, outbox_cap=10))
    posted = newest_first(await service.posts("alice", 15))
    if state != "cold":
        await service.warm("bob")
    await service.follow("bob", "alice")
    if state == "pulled":  # as a process leaves it that dies in Follow
        name = keys.feed(service.tag("bob"), "bob")
        await service.store.delete(name)
        await service.store.rpush(name, "0")
        await service.store.sadd(keys.pulled(service.tag("bob"), "bob"), "alice")
    page = await service.page("bob", size=100)
    assert ids_of(page) == posted[:10]
    assert page.end == RETENTION
    assert page.incomplete_below == posted[10]


@pytest.mark.every_store
async def test_feed_that_is_cold_is_simply_empty(service: Service) -> None:
    posted = await follows_three(service, 10)
    assert (await service.stats("bob")).state == 1
    assert await service.feed("bob", size=7) == posted
    await service.chill("bob", "a0")
    assert await service.feed("bob", size=7) == posted
    assert await service.feed("a0", size=7) == posted[2::3]


@pytest.mark.every_store
async def test_feed_that_was_flushed_is_simply_empty(service: Service) -> None:
    """Also between two pages of a walk, and with all that is only there to be quick."""
    posted = await follows_three(service, 10)
    found: list[str] = []
    async for page in service.walk("bob", size=4):
        found += ids_of(page)
        async for name in service.store.scan_iter(match="*}f:*"):
            await service.store.delete(name)
        await service.store.script_flush()
    assert found == posted


@pytest.mark.every_store
async def test_feed_that_is_half_built_is_simply_empty(service: Service) -> None:
    """As a process leaves it that dies while it builds."""
    posted = await follows_three(service, 10)
    name = keys.feed(service.tag("bob"), "bob")
    await service.store.rpush(name, "!0123456789abcdef")
    assert await service.feed("bob", size=7) == posted
    newer = await service.post("a0")
    assert await service.feed("bob", size=7) == [newer, *posted]


async def test_feed_is_simply_empty_after_a_restart(serve: Serve) -> None:
    service = await serve()
    posted = await follows_three(service, 10)
    page = await service.page("bob", size=4)
    await service.stop()
    service = await serve()
    rest = [one async for p in service.walk("bob", page.next_page_token, 4) for one in ids_of(p)]
    assert ids_of(page) + rest == posted


@pytest.mark.every_store
async def test_cached_pages_outlive_a_delete(serve: Serve) -> None:
    """Whoever deleted it, on whichever process: no page that is asked for after that shows it."""
    here, there = await serve(), await serve()
    posted = await follows_three(here, 3)
    assert await there.feed("bob") == posted
    while posted:
        one = posted.pop(random.randrange(len(posted)))
        await here.delete(one, (await there.get(one)).actor)
        assert await there.feed("bob") == posted
        assert (await refused(there.get(one))).reason == "ACTIVITY_NOT_FOUND"


@pytest.mark.every_store
async def test_cached_pages_outlive_an_unfollow(serve: Serve) -> None:
    here, there = await serve(), await serve()
    posted = await follows_three(here, 3)
    assert await there.feed("bob") == posted
    for author in ("a1", "a2", "a0"):
        posted = [one for one in posted if (await here.get(one)).actor != author]
        await here.unfollow("bob", author)
        assert await there.feed("bob") == posted


async def test_complete_page_says_that_it_may_not_be(serve: Serve) -> None:
    """Only pages that reach below what was trimmed say so, in either direction."""
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    posted = newest_first(await service.posts("alice", 60))[:41]
    deep = await service.page("bob", size=38)
    assert deep.incomplete_below == ""
    low = await service.page("bob", (await service.page("bob", size=36)).next_page_token, 1)
    newer = await service.page("bob", low.newer_page_token, 100)
    assert (ids_of(newer), newer.end) == (posted[:36], NEWEST)
    assert newer.incomplete_below == ""
    last = await service.page("bob", low.next_page_token, 100)
    assert (ids_of(last), last.end) == (posted[37:40], RETENTION)
    assert last.incomplete_below == posted[40]


async def test_walk_towards_newer_skips_or_repeats(serve: Serve) -> None:
    """From anywhere, in pages of any size, over the edge of what is stored."""
    service = await serve(limits=SMALL)
    posted = await follows_three(service, 12)
    token = ""
    for place in range(35):
        page = await service.page("bob", token, 1)
        token = page.next_page_token
        for size in (1, 5, 100):
            found = [one async for one in service.walk_newer("bob", page.newer_page_token, size)]
            assert [one for each in reversed(found) for one in ids_of(each)] == posted[:place]
            assert all(each.next_page_token for each in found)
            # And back: the page below a page begins where that one ends.
            below = await service.page("bob", found[0].next_page_token, 2)
            start = posted.index(ids_of(found[0])[-1]) + 1 if place else 0
            assert ids_of(below) == posted[start : start + 2]
