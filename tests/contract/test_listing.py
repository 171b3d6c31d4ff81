"""Lists of activities and edges, counts, and what the operator is told of a stored feed."""

import asyncio
import time
from typing import Any

import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    FEED_DIFFERENCE_KIND_EXTRA,
    FEED_DIFFERENCE_KIND_MISPLACED,
    FEED_DIFFERENCE_KIND_MISSING,
    FEED_STATE_BUILDING,
    FEED_STATE_COLD,
    FEED_STATE_WARM,
)
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY
from activityfeed.v1.feed_pb2 import PageEnd
from activityfeed.v1.follow_service_pb2 import (
    BatchGetRelationshipsRequest,
    ListFollowersRequest,
    ListFollowingRequest,
)

from feedsvc.config import Limits
from feedsvc.core import keys, verification
from tests.serving import Serve, Service, ids_of

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40, read_work=100)
MISSING, EXTRA, MISPLACED = (
    FEED_DIFFERENCE_KIND_MISSING,
    FEED_DIFFERENCE_KIND_EXTRA,
    FEED_DIFFERENCE_KIND_MISPLACED,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """VerifyFeed looks again soon: here nothing is on its way."""
    monkeypatch.setattr(verification, "VERIFY_SECONDS", 0.001)


async def mixed_outbox(service: Service) -> tuple[list[str], list[str]]:
    """An outbox of 30, and those ten of it that repo:x did itself; newest first."""
    everything, own = [], []
    for number in range(10):
        own.append(await service.post("repo:x"))
        everything.append(own[-1])
        everything.append(await service.post(f"a{number}", to=["repo:x"]))
        everything.append(
            await service.post(f"a{number}", to=["repo:x"], audience=AUDIENCE_TO_ONLY)
        )
    return sorted(everything, reverse=True), own[::-1]


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 7, 10, 100])
async def test_outbox_is_walked_in_both_directions(service: Service, size: int) -> None:
    everything, own = await mixed_outbox(service)
    for own_only, expected in ((False, everything), (True, own)):
        query: dict[str, Any] = {"page_size": size, "own_only": own_only}
        assert await service.outbox("repo:x", **query) == expected
        top = await service.outbox_page("repo:x", **query)
        token = top.newer_page_token
        newer = [await service.post("repo:x") for _ in range(5)]
        found: list[str] = []
        while True:
            page = await service.outbox_page("repo:x", token, **query)
            found = [one.activity.id for one in page.activities] + found
            token = page.newer_page_token
            assert token
            if page.end == PageEnd.PAGE_END_NEWEST:
                break
        assert found == newer[::-1]
        # Polled again: nothing, and a token to go on with.
        page = await service.outbox_page("repo:x", token, **query)
        assert (list(page.activities), page.end) == ([], PageEnd.PAGE_END_NEWEST)
        for one in newer:
            await service.delete(one, "repo:x")


@pytest.mark.every_store
async def test_outbox_ends_where_it_was_trimmed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await service.posts("alice", 40)
    page = await service.outbox_page("alice", page_size=100)
    assert page.end == PageEnd.PAGE_END_FEED_END
    posted += await service.posts("alice", 5)
    pages = [await service.outbox_page("alice", page_size=7)]
    while pages[-1].next_page_token:
        pages.append(await service.outbox_page("alice", pages[-1].next_page_token, page_size=7))
    assert [one.activity.id for page in pages for one in page.activities] == posted[:4:-1]
    assert [page.end for page in pages[:-1]] == [PageEnd.PAGE_END_MORE] * 5
    assert pages[-1].end == PageEnd.PAGE_END_RETENTION


async def test_own_only_pages_that_find_little_have_a_token(serve: Serve) -> None:
    """After as much work as a page may be, it ends, and the walk goes on."""
    service = await serve(limits=Limits(read_work=100))
    first = await service.post("repo:x")
    await service.posts("alice", 350, to=["repo:x"])
    page = await service.outbox_page("repo:x", own_only=True)
    assert (list(page.activities), page.end) == ([], PageEnd.PAGE_END_MORE)
    assert await service.outbox("repo:x", own_only=True) == [first]


@pytest.mark.every_store
async def test_outbox_of_nobody(service: Service) -> None:
    page = await service.outbox_page("nobody")
    assert (list(page.activities), page.next_page_token) == ([], "")
    assert page.end == PageEnd.PAGE_END_FEED_END
    posted = await service.post("nobody")
    page = await service.outbox_page("nobody", page.newer_page_token)
    assert [one.activity.id for one in page.activities] == [posted]


# Edges.


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 7, 100, 5_000])
async def test_followers_of_all_shards_newest_first_each_once(service: Service, size: int) -> None:
    count = 60 if size == 1 else 250
    names = [f"f{number}" for number in range(count)]
    for name in names[: count // 2]:
        await service.follow(name, "alice")
    await service.follow_all([(name, "alice") for name in names[count // 2 :]])
    assert len({service.tag(name) for name in names}) > 12
    found = await service.followers("alice", size)
    assert sorted(found) == sorted(names)
    assert found[count - count // 2 :] == names[: count // 2][::-1]
    assert await service.counts("alice") == (count, 0)


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 7, 100, 5_000])
async def test_followed_of_all_shards_newest_first_each_once(service: Service, size: int) -> None:
    names = [f"a{number}" for number in range(120)]
    for name in names[:60]:
        await service.follow("bob", name)
    await service.follow_all([("bob", name) for name in names[60:]])
    assert await service.following("bob", size) == names[::-1]
    assert await service.counts("bob") == (0, 120)


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_followers_of_one_microsecond_are_listed_once_each(
    service: Service, size: int
) -> None:
    """Shards give out positions without asking each other."""
    names = [f"f{number}" for number in range(40)]
    await service.follow_all([(name, "alice") for name in names])
    assert len({service.tag(name) for name in names}) > 8
    position: dict[str, int] = {}
    for name in names:
        tag = service.tag(name)
        position[tag] = position.get(tag, 1_700_000_000_000_000) + 1
        await service.store.hset(keys.edges(tag, name), "alice", str(position[tag]))
    found = await service.followers("alice", size)
    assert sorted(found) == sorted(names)


@pytest.mark.every_store
async def test_lists_while_others_follow_and_unfollow(service: Service) -> None:
    """Who was there for the whole walk is listed once, whoever comes and goes meanwhile."""
    names = [f"f{number}" for number in range(100)]
    await service.follow_all([(name, "alice") for name in names])
    await service.follow_all([("alice", name) for name in names])

    async def others() -> None:
        for number in range(60):
            await asyncio.gather(
                service.follow(f"late{number}", "alice"),
                service.follow("alice", f"late{number}"),
            )
            if number % 3 == 0:
                await service.unfollow(f"late{number}", "alice")
                await service.unfollow("alice", f"late{number}")

    changes = asyncio.create_task(others())
    rounds = 0
    while not changes.done():
        followers, following = await asyncio.gather(
            service.followers("alice", 3), service.following("alice", 3)
        )
        for found in (followers, following):
            assert len(found) == len(set(found))
            assert set(names) <= set(found)
        rounds += 1
    await changes
    assert rounds > 1
    assert await service.counts("alice") == (140, 140)


@pytest.mark.every_store
async def test_edges_say_since_when(service: Service) -> None:
    before = time.time_ns() // 1_000_000
    made = [(await service.follow("bob", f"a{number}")).edge for number in range(5)]
    after = time.time_ns() // 1_000_000
    times = [edge.follow_time.ToMilliseconds() for edge in made]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= after
    following = await service.follows.ListFollowing(ListFollowingRequest(entity="bob"))
    assert list(following.edges) == made[::-1]
    for edge in made:
        followers = await service.follows.ListFollowers(ListFollowersRequest(entity=edge.followee))
        assert list(followers.edges) == [edge]


@pytest.mark.every_store
async def test_full_last_page_of_edges_promises_no_next_one(service: Service) -> None:
    await service.follow_all([(f"f{number}", "alice") for number in range(10)])
    await service.follow_all([("bob", f"a{number}") for number in range(10)])
    calls: list[tuple[Any, Any]] = [
        (service.follows.ListFollowers, ListFollowersRequest(entity="alice", page_size=10)),
        (service.follows.ListFollowing, ListFollowingRequest(entity="bob", page_size=10)),
    ]
    for call, request in calls:
        page = await call(request)
        assert (len(page.edges), page.next_page_token) == (10, "")
        request.page_size = 9
        assert (await call(request)).next_page_token


@pytest.mark.every_store
async def test_relationships(service: Service) -> None:
    await service.follow("alice", "one")
    await service.follow("two", "alice")
    await service.follow("alice", "both")
    await service.follow("both", "alice")
    await service.follow("alice", "gone")
    await service.unfollow("alice", "gone")
    await service.follow("one", "two")
    others = ["one", "two", "both", "gone", "nobody", "alice", "one"]
    answer = await service.follows.BatchGetRelationships(
        BatchGetRelationshipsRequest(entity="alice", others=others)
    )
    found = [(one.other, one.following, one.followed_by) for one in answer.relationships]
    assert found == [
        ("one", True, False),
        ("two", False, True),
        ("both", True, True),
        ("gone", False, False),
        ("nobody", False, False),
        ("alice", False, False),
        ("one", True, False),
    ]


@pytest.mark.every_store
async def test_counts_are_exact_after_anything(service: Service) -> None:
    names = [f"n{number}" for number in range(20)]
    for number, name in enumerate(names):
        for other in names[: number // 2]:
            if other != name:
                await service.follow(name, other)
    for name in names[::3]:
        for other in await service.following(name):
            await service.unfollow(name, other)
    for name in names:
        followers, following = await service.followers(name), await service.following(name)
        assert await service.counts(name) == (len(followers), len(following))
    assert await service.counts("nobody") == (0, 0)


# What is stored of a feed.


@pytest.mark.every_store
async def test_stats_of_a_feed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    stats = await service.stats("bob")
    assert (stats.state, stats.entry_count, stats.stored_bytes) == (FEED_STATE_COLD, 0, 0)
    assert not stats.HasField("floor")
    assert not stats.HasField("expires_in") or stats.expires_in.ToMilliseconds() == 0
    for number in range(3):
        await service.follow("bob", f"a{number}")
    posted = await service.posts("a0", 8)
    assert (await service.stats("bob")).state == FEED_STATE_COLD, "looking does not touch it"
    await service.warm("bob")
    stats = await service.stats("bob")
    assert (stats.state, stats.entry_count, stats.floor) == (FEED_STATE_WARM, 8, "")
    assert (stats.following_count, stats.pulled_count, stats.live) == (3, 0, False)
    assert stats.stored_bytes > 0
    ttl = SMALL.feed_ttl * 1_000
    assert 0.9 * ttl < stats.expires_in.ToMilliseconds() <= ttl
    posted += await service.posts("a0", 5)
    await service.page("bob", resumable=True)
    stats = await service.stats("bob")
    assert (stats.entry_count, stats.floor, stats.live) == (10, posted[2], True)
    await service.store.rpush(keys.feed(service.tag("x"), "x"), "!nonce")
    assert (await service.stats("x")).state == FEED_STATE_BUILDING
    await service.store.sadd(keys.pulled(service.tag("bob"), "bob"), "a1")
    assert (await service.stats("bob")).pulled_count == 1
    await service.unfollow("bob", "a1")
    stats = await service.stats("bob")
    assert (stats.state, stats.following_count, stats.pulled_count) == (FEED_STATE_COLD, 2, 0)


@pytest.mark.every_store
async def test_verify_of_a_right_feed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "a0")
    await service.follow("bob", "a1")
    found = await service.verify("bob")
    assert (found.state, found.compared_count, len(found.differences)) == (FEED_STATE_COLD, 0, 0)
    await service.warm("bob")
    for count in (0, 5, 5, 5):
        posted = await service.posts("a0", count)
        await service.posts("a1", count)
        for one in posted[:2]:
            await service.delete(one, "a0")
        found = await service.verify("bob")
        entries = (await service.stats("bob")).entry_count
        assert (found.state, found.compared_count) == (FEED_STATE_WARM, entries)
        assert list(found.differences) == []


@pytest.mark.every_store
@pytest.mark.parametrize("place", [0, 4, 9])
async def test_verify_names_what_is_missing(service: Service, place: int) -> None:
    stored, posted = await planted(service)
    await service.store.lrem(stored, 1, posted[place])
    assert await differences(service) == [(MISSING, posted[place])]


@pytest.mark.every_store
async def test_verify_names_what_is_extra(service: Service) -> None:
    stored, posted = await planted(service)
    strangers = await service.posts("stranger", 2)
    await service.store.linsert(stored, "BEFORE", posted[5], strangers[0])
    await service.store.rpush(stored, strangers[1])
    found = await differences(service)
    assert [one for one in found if one[0] == EXTRA] == [
        (EXTRA, strangers[1]),
        (EXTRA, strangers[0]),
    ]


@pytest.mark.every_store
async def test_verify_names_what_is_extra_and_in_order(service: Service) -> None:
    stored, _ = await planted(service)
    stranger = await service.post("stranger")
    await service.store.rpush(stored, stranger)
    assert await differences(service) == [(EXTRA, stranger)]


@pytest.mark.every_store
async def test_verify_names_what_is_there_twice(service: Service) -> None:
    stored, posted = await planted(service)
    await service.store.linsert(stored, "AFTER", posted[3], posted[3])
    assert await differences(service) == [(MISPLACED, posted[3])]


@pytest.mark.every_store
async def test_verify_names_what_is_out_of_order(service: Service) -> None:
    stored, posted = await planted(service)
    await service.store.lrem(stored, 1, posted[3])
    await service.store.linsert(stored, "AFTER", posted[4], posted[3])
    found = await differences(service)
    assert len(found) == 1
    assert found[0][0] == MISPLACED
    assert found[0][1] in {posted[3], posted[4]}


@pytest.mark.every_store
async def test_verify_says_nothing_of_what_is_deleted(service: Service) -> None:
    """Whether the stored list holds it is all the same: no page shows it."""
    stored, posted = await planted(service)
    for one in posted[2:5]:
        await service.delete(one, "alice")
    await service.store.lrem(stored, 1, posted[3])
    assert await differences(service) == []


@pytest.mark.every_store
async def test_rebuild_mends_a_feed(service: Service) -> None:
    stored, posted = await planted(service)
    stranger = await service.post("stranger")
    await service.store.lrem(stored, 1, posted[3])
    await service.store.rpush(stored, stranger)
    assert await differences(service) == [(EXTRA, stranger), (MISSING, posted[3])]
    built = await service.rebuild("bob")
    assert (built.state, built.entry_count) == (FEED_STATE_WARM, 10)
    assert await differences(service) == []
    assert await service.feed("bob") == posted[::-1]


@pytest.mark.every_store
async def test_rebuild_of_a_cold_feed_and_of_nobodys(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    posted = await service.posts("alice", 20)
    built = await service.rebuild("bob")
    assert (built.state, built.entry_count) == (FEED_STATE_WARM, 10)
    assert (await service.stats("bob")).floor == posted[9]
    built = await service.rebuild("nobody")
    assert (built.state, built.entry_count) == (FEED_STATE_WARM, 0)


async def test_readers_do_not_notice_rebuilds(service: Service) -> None:
    """Nor publishers, who deliver into a feed that is being built."""
    await service.follow("bob", "alice")
    posted = await service.posts("alice", 100)

    async def rebuild() -> None:
        for _ in range(30):
            await service.rebuild("bob")

    rebuilding = asyncio.create_task(rebuild())
    while not rebuilding.done():
        posted.append(await service.post("alice"))
        page = await service.page("bob", size=100)
        assert ids_of(page) == posted[: -len(page.items) - 1 : -1]
        assert len(page.items) == 100
    await rebuilding
    await service.warm("bob")
    assert await differences(service) == []


async def planted(service: Service) -> tuple[str, list[str]]:
    """A warm feed of ten, to be corrupted: its key and its ids, oldest first."""
    await service.follow("bob", "alice")
    posted = await service.posts("alice", 10)
    await service.warm("bob")
    return keys.feed(service.tag("bob"), "bob"), posted


async def differences(service: Service) -> list[tuple[int, str]]:
    found = await service.verify("bob")
    assert found.state == FEED_STATE_WARM
    return [(one.kind, one.activity_id) for one in found.differences]
