"""Lists of activities and edges, counts, and what an operator sees of a stored feed."""

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
from tests.serving import Serve, Service, ids_on_page

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40, read_work=100)
MISSING, EXTRA, MISPLACED = (
    FEED_DIFFERENCE_KIND_MISSING,
    FEED_DIFFERENCE_KIND_EXTRA,
    FEED_DIFFERENCE_KIND_MISPLACED,
)


@pytest.fixture(autouse=True)
def _verify_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make VerifyFeed look again soon: no delivery is under way here."""
    monkeypatch.setattr(verification, "VERIFY_SECONDS", 0.001)


async def make_mixed_outbox(service: Service) -> tuple[list[str], list[str]]:
    """Make an outbox of 30 activities; return all ids, and those of repo:x itself, newest first."""
    all_ids, own_ids = [], []
    for number in range(10):
        own_ids.append(await service.post("repo:x"))
        all_ids.append(own_ids[-1])
        all_ids.append(await service.post(f"a{number}", to=["repo:x"]))
        all_ids.append(await service.post(f"a{number}", to=["repo:x"], audience=AUDIENCE_TO_ONLY))
    return sorted(all_ids, reverse=True), own_ids[::-1]


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 7, 10, 100])
async def test_outbox_is_walked_in_both_directions(service: Service, size: int) -> None:
    all_ids, own_ids = await make_mixed_outbox(service)
    for own_only, expected in ((False, all_ids), (True, own_ids)):
        query: dict[str, Any] = {"page_size": size, "own_only": own_only}
        assert await service.outbox("repo:x", **query) == expected
        top_page = await service.outbox_page("repo:x", **query)
        token = top_page.newer_page_token
        newer_ids = [await service.post("repo:x") for _ in range(5)]
        read_ids: list[str] = []
        while True:
            page = await service.outbox_page("repo:x", token, **query)
            read_ids = [viewed.activity.id for viewed in page.activities] + read_ids
            token = page.newer_page_token
            assert token
            if page.end == PageEnd.PAGE_END_NEWEST:
                break
        assert read_ids == newer_ids[::-1]
        # Another poll brings nothing, and a token to go on with.
        page = await service.outbox_page("repo:x", token, **query)
        assert (list(page.activities), page.end) == ([], PageEnd.PAGE_END_NEWEST)
        for activity_id in newer_ids:
            await service.delete(activity_id, "repo:x")


@pytest.mark.every_store
async def test_outbox_ends_where_it_was_trimmed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await service.post_many("alice", 40)
    page = await service.outbox_page("alice", page_size=100)
    assert page.end == PageEnd.PAGE_END_FEED_END
    posted += await service.post_many("alice", 5)
    pages = [await service.outbox_page("alice", page_size=7)]
    while pages[-1].next_page_token:
        pages.append(await service.outbox_page("alice", pages[-1].next_page_token, page_size=7))
    assert [viewed.activity.id for page in pages for viewed in page.activities] == posted[:4:-1]
    assert [page.end for page in pages[:-1]] == [PageEnd.PAGE_END_MORE] * 5
    assert pages[-1].end == PageEnd.PAGE_END_RETENTION


async def test_own_only_page_that_skips_too_much_has_a_token(serve: Serve) -> None:
    """The page ends after the most work that a page may take, and the walk goes on."""
    service = await serve(limits=Limits(read_work=100))
    own_id = await service.post("repo:x")
    await service.post_many("alice", 350, to=["repo:x"])
    page = await service.outbox_page("repo:x", own_only=True)
    assert (list(page.activities), page.end) == ([], PageEnd.PAGE_END_MORE)
    assert await service.outbox("repo:x", own_only=True) == [own_id]


@pytest.mark.every_store
async def test_outbox_of_an_unknown_entity_is_empty_and_can_be_polled(service: Service) -> None:
    page = await service.outbox_page("nobody")
    assert (list(page.activities), page.next_page_token) == ([], "")
    assert page.end == PageEnd.PAGE_END_FEED_END
    activity_id = await service.post("nobody")
    page = await service.outbox_page("nobody", page.newer_page_token)
    assert [viewed.activity.id for viewed in page.activities] == [activity_id]


# Edges.


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 7, 100, 5_000])
async def test_followers_of_all_shards_are_listed_once_newest_first(
    service: Service, size: int
) -> None:
    count = 60 if size == 1 else 250
    names = [f"f{number}" for number in range(count)]
    for name in names[: count // 2]:
        await service.follow(name, "alice")
    await service.follow_all([(name, "alice") for name in names[count // 2 :]])
    assert len({service.tag(name) for name in names}) > 12
    listed = await service.followers("alice", size)
    assert sorted(listed) == sorted(names)
    assert listed[count - count // 2 :] == names[: count // 2][::-1]
    assert await service.counts("alice") == (count, 0)


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 7, 100, 5_000])
async def test_followees_of_all_shards_are_listed_once_newest_first(
    service: Service, size: int
) -> None:
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
    """Shards give out edge positions without asking each other."""
    names = [f"f{number}" for number in range(40)]
    await service.follow_all([(name, "alice") for name in names])
    assert len({service.tag(name) for name in names}) > 8
    positions: dict[str, int] = {}
    for name in names:
        tag = service.tag(name)
        positions[tag] = positions.get(tag, 1_700_000_000_000_000) + 1
        await service.store.hset(keys.edges(tag, name), "alice", str(positions[tag]))
    listed = await service.followers("alice", size)
    assert sorted(listed) == sorted(names)


@pytest.mark.every_store
async def test_list_has_each_lasting_edge_once_while_other_edges_change(service: Service) -> None:
    names = [f"f{number}" for number in range(100)]
    await service.follow_all([(name, "alice") for name in names])
    await service.follow_all([("alice", name) for name in names])

    async def change_edges() -> None:
        for number in range(60):
            await asyncio.gather(
                service.follow(f"late{number}", "alice"),
                service.follow("alice", f"late{number}"),
            )
            if number % 3 == 0:
                await service.unfollow(f"late{number}", "alice")
                await service.unfollow("alice", f"late{number}")

    changes = asyncio.create_task(change_edges())
    rounds = 0
    while not changes.done():
        followers, following = await asyncio.gather(
            service.followers("alice", 3), service.following("alice", 3)
        )
        for listed in (followers, following):
            assert len(listed) == len(set(listed))
            assert set(names) <= set(listed)
        rounds += 1
    await changes
    assert rounds > 1
    assert await service.counts("alice") == (140, 140)


@pytest.mark.every_store
async def test_edges_have_the_time_of_the_follow(service: Service) -> None:
    before_ms = time.time_ns() // 1_000_000
    edges = [(await service.follow("bob", f"a{number}")).edge for number in range(5)]
    after_ms = time.time_ns() // 1_000_000
    times = [edge.follow_time.ToMilliseconds() for edge in edges]
    assert times == sorted(times)
    assert before_ms <= times[0] <= times[-1] <= after_ms
    following = await service.follows.ListFollowing(ListFollowingRequest(entity="bob"))
    assert list(following.edges) == edges[::-1]
    for edge in edges:
        followers = await service.follows.ListFollowers(ListFollowersRequest(entity=edge.followee))
        assert list(followers.edges) == [edge]


@pytest.mark.every_store
async def test_full_last_page_of_edges_is_the_end(service: Service) -> None:
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
async def test_relationships_have_both_directions(service: Service) -> None:
    await service.follow("alice", "followee")
    await service.follow("follower", "alice")
    await service.follow("alice", "friend")
    await service.follow("friend", "alice")
    await service.follow("alice", "former")
    await service.unfollow("alice", "former")
    await service.follow("followee", "follower")
    others = ["followee", "follower", "friend", "former", "stranger", "alice", "followee"]
    answer = await service.follows.BatchGetRelationships(
        BatchGetRelationshipsRequest(entity="alice", others=others)
    )
    relationships = [
        (relationship.other, relationship.following, relationship.followed_by)
        for relationship in answer.relationships
    ]
    assert relationships == [
        ("followee", True, False),
        ("follower", False, True),
        ("friend", True, True),
        ("former", False, False),
        ("stranger", False, False),
        ("alice", False, False),
        ("followee", True, False),
    ]


@pytest.mark.every_store
async def test_counts_equal_the_lists_after_many_changes(service: Service) -> None:
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


# The stored part of a feed.


@pytest.mark.every_store
async def test_stats_describe_the_stored_feed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    stats = await service.stats("bob")
    assert (stats.state, stats.entry_count, stats.stored_bytes) == (FEED_STATE_COLD, 0, 0)
    assert not stats.HasField("floor")
    assert not stats.HasField("expires_in") or stats.expires_in.ToMilliseconds() == 0
    for number in range(3):
        await service.follow("bob", f"a{number}")
    posted = await service.post_many("a0", 8)
    assert (await service.stats("bob")).state == FEED_STATE_COLD, (
        "reading the stats does not build the feed"
    )
    await service.warm("bob")
    stats = await service.stats("bob")
    assert (stats.state, stats.entry_count, stats.floor) == (FEED_STATE_WARM, 8, "")
    assert (stats.following_count, stats.pulled_count, stats.live) == (3, 0, False)
    assert stats.stored_bytes > 0
    ttl = SMALL.feed_ttl * 1_000
    assert 0.9 * ttl < stats.expires_in.ToMilliseconds() <= ttl
    posted += await service.post_many("a0", 5)
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
async def test_verify_reports_no_difference_for_a_right_feed(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "a0")
    await service.follow("bob", "a1")
    verification = await service.verify("bob")
    assert (verification.state, verification.compared_count, len(verification.differences)) == (
        FEED_STATE_COLD,
        0,
        0,
    )
    await service.warm("bob")
    for count in (0, 5, 5, 5):
        posted = await service.post_many("a0", count)
        await service.post_many("a1", count)
        for activity_id in posted[:2]:
            await service.delete(activity_id, "a0")
        verification = await service.verify("bob")
        entries = (await service.stats("bob")).entry_count
        assert (verification.state, verification.compared_count) == (FEED_STATE_WARM, entries)
        assert list(verification.differences) == []


@pytest.mark.every_store
@pytest.mark.parametrize("index", [0, 4, 9])
async def test_verify_reports_a_missing_activity(service: Service, index: int) -> None:
    feed_key, posted = await make_warm_feed(service)
    await service.store.lrem(feed_key, 1, posted[index])
    assert await reported_differences(service) == [(MISSING, posted[index])]


@pytest.mark.every_store
async def test_verify_reports_extra_activities(service: Service) -> None:
    feed_key, posted = await make_warm_feed(service)
    stranger_ids = await service.post_many("stranger", 2)
    await service.store.linsert(feed_key, "BEFORE", posted[5], stranger_ids[0])
    await service.store.rpush(feed_key, stranger_ids[1])
    reported = await reported_differences(service)
    assert [difference for difference in reported if difference[0] == EXTRA] == [
        (EXTRA, stranger_ids[1]),
        (EXTRA, stranger_ids[0]),
    ]


@pytest.mark.every_store
async def test_verify_reports_an_extra_activity_in_order(service: Service) -> None:
    feed_key, _ = await make_warm_feed(service)
    stranger_id = await service.post("stranger")
    await service.store.rpush(feed_key, stranger_id)
    assert await reported_differences(service) == [(EXTRA, stranger_id)]


@pytest.mark.every_store
async def test_verify_reports_a_repeated_activity(service: Service) -> None:
    feed_key, posted = await make_warm_feed(service)
    await service.store.linsert(feed_key, "AFTER", posted[3], posted[3])
    assert await reported_differences(service) == [(MISPLACED, posted[3])]


@pytest.mark.every_store
async def test_verify_reports_an_activity_out_of_order(service: Service) -> None:
    feed_key, posted = await make_warm_feed(service)
    await service.store.lrem(feed_key, 1, posted[3])
    await service.store.linsert(feed_key, "AFTER", posted[4], posted[3])
    reported = await reported_differences(service)
    assert len(reported) == 1
    assert reported[0][0] == MISPLACED
    assert reported[0][1] in {posted[3], posted[4]}


@pytest.mark.every_store
async def test_verify_ignores_deleted_activities(service: Service) -> None:
    """The stored list may hold them or not: no page shows them."""
    feed_key, posted = await make_warm_feed(service)
    for activity_id in posted[2:5]:
        await service.delete(activity_id, "alice")
    await service.store.lrem(feed_key, 1, posted[3])
    assert await reported_differences(service) == []


@pytest.mark.every_store
async def test_rebuild_repairs_a_feed(service: Service) -> None:
    feed_key, posted = await make_warm_feed(service)
    stranger_id = await service.post("stranger")
    await service.store.lrem(feed_key, 1, posted[3])
    await service.store.rpush(feed_key, stranger_id)
    assert await reported_differences(service) == [(EXTRA, stranger_id), (MISSING, posted[3])]
    built = await service.rebuild("bob")
    assert (built.state, built.entry_count) == (FEED_STATE_WARM, 10)
    assert await reported_differences(service) == []
    assert await service.feed("bob") == posted[::-1]


@pytest.mark.every_store
async def test_rebuild_makes_cold_and_unknown_feeds_warm(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    posted = await service.post_many("alice", 20)
    built = await service.rebuild("bob")
    assert (built.state, built.entry_count) == (FEED_STATE_WARM, 10)
    assert (await service.stats("bob")).floor == posted[9]
    built = await service.rebuild("nobody")
    assert (built.state, built.entry_count) == (FEED_STATE_WARM, 0)


async def test_rebuilds_do_not_disturb_readers_or_publishers(service: Service) -> None:
    """A publisher may deliver into a feed that is being built."""
    await service.follow("bob", "alice")
    posted = await service.post_many("alice", 100)

    async def rebuild() -> None:
        for _ in range(30):
            await service.rebuild("bob")

    rebuilding = asyncio.create_task(rebuild())
    while not rebuilding.done():
        posted.append(await service.post("alice"))
        page = await service.page("bob", size=100)
        assert ids_on_page(page) == posted[: -len(page.items) - 1 : -1]
        assert len(page.items) == 100
    await rebuilding
    await service.warm("bob")
    assert await reported_differences(service) == []


async def make_warm_feed(service: Service) -> tuple[str, list[str]]:
    """Make a warm feed of ten for a test to corrupt; return its key and its ids, oldest first."""
    await service.follow("bob", "alice")
    posted = await service.post_many("alice", 10)
    await service.warm("bob")
    return keys.feed(service.tag("bob"), "bob"), posted


async def reported_differences(service: Service) -> list[tuple[int, str]]:
    verification = await service.verify("bob")
    assert verification.state == FEED_STATE_WARM
    return [(difference.kind, difference.activity_id) for difference in verification.differences]
