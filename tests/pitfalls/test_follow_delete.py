"""Mistakes that feed systems make when users follow, unfollow and delete."""

import asyncio
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity

from feedsvc.config import Limits
from tests.serving import Serve, Service, expect_refusal, ids_on_page

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40)
#: Rounds of concurrent calls; the calls take another order in each round.
ROUNDS = 40


async def assert_feed(service: Service, user: str, expected: list[str]) -> None:
    """Assert that the feed is as expected, both as stored and as built anew."""
    assert await service.feed(user) == expected
    verification = await service.verify(user)
    assert list(verification.differences) == []
    await service.make_cold(user)
    assert await service.feed(user) == expected


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_follow_shows_the_earlier_posts_of_the_followee(
    service: Service, *, warm: bool
) -> None:
    """Pitfall: a new follow shows nothing until the followee posts again."""
    posted = await service.post_many("alice", 30)
    if warm:
        await service.warm("bob")
    await service.follow("bob", "alice")
    assert ids_on_page(await service.page("bob", size=100)) == posted[::-1]
    await assert_feed(service, "bob", posted[::-1])


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_following_again_brings_back_all_activities(service: Service, *, warm: bool) -> None:
    """Pitfall: following again after an unfollow brings back 20 of 300 activities."""
    await service.follow("bob", "alice")
    posted = await service.post_many("alice", 300)
    await assert_feed(service, "bob", posted[::-1])
    await service.unfollow("bob", "alice")
    if warm:
        await service.warm("bob")
    await service.follow("bob", "alice")
    await assert_feed(service, "bob", posted[::-1])


async def test_following_a_full_outbox_keeps_the_activities_of_other_followees(
    serve: Serve,
) -> None:
    """Pitfall: the backfill of a follow pushes other followees' activities out of the feed."""
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    alice_ids = await service.post_many("alice", 15)
    await service.warm("bob")
    carol_ids = await service.post_many("carol", 15)
    await service.follow("bob", "carol")
    await assert_feed(service, "bob", (alice_ids + carol_ids)[::-1])
    assert (await service.stats("bob")).entry_count <= 12


async def test_follow_of_many_in_batches_shows_the_posts_of_all(service: Service) -> None:
    """Pitfall: a batch of follows backfills only its first entries."""
    authors = [f"a{number}" for number in range(120)]
    posted = await service.post_all(
        [Activity(actor=author, verb="post") for author in authors for _ in range(3)]
    )
    await service.warm("bob")
    await service.follow_all([("bob", author) for author in authors])
    await assert_feed(service, "bob", sorted(posted, reverse=True))


@pytest.mark.every_store
async def test_post_in_flight_does_not_come_back_after_an_unfollow(serve: Serve) -> None:
    """Pitfall: a post that was in flight during an unfollow appears in the feed afterwards.

    One process unfollows while another one publishes.
    """
    server_a, server_b = await serve(), await serve()
    for number in range(ROUNDS):
        user, author = f"u{number}", f"a{number}"
        await server_a.follow(user, author)
        own_id = await server_a.post(user)
        await server_a.warm(user)
        await asyncio.gather(
            *(server_b.post(author) for _ in range(number % 3)),
            server_a.unfollow(user, author),
            server_b.page(user),
            server_b.post(author),
        )
        await assert_feed(server_a, user, [own_id])


@pytest.mark.every_store
async def test_rebuild_in_flight_does_not_undo_an_unfollow(serve: Serve) -> None:
    """Pitfall: a rebuild that was in flight during an unfollow brings the author's posts back."""
    server_a, server_b = await serve(), await serve()
    for number in range(ROUNDS):
        user, author = f"u{number}", f"a{number}"
        await server_a.follow(user, author)
        await server_b.post(author)
        await asyncio.gather(
            server_b.page(user),
            server_a.unfollow(user, author),
            server_b.rebuild(user),
            server_b.page(user),
        )
        await assert_feed(server_a, user, [])


@pytest.mark.every_store
async def test_follow_during_a_publish_delivers_the_activity(serve: Serve) -> None:
    """Pitfall: a post that was in flight during a follow never reaches the new follower."""
    server_a, server_b = await serve(), await serve()
    for number in range(ROUNDS):
        user, author = f"u{number}", f"a{number}"
        if number % 2:
            await server_a.warm(user)
        posted = await asyncio.gather(
            server_b.post(author),
            server_a.follow(user, author),
            server_b.post(author),
            server_a.page(user),
        )
        await assert_feed(server_a, user, sorted({posted[0], posted[2]}, reverse=True))


@pytest.mark.every_store
async def test_unfollow_keeps_what_also_arrives_by_another_route(service: Service) -> None:
    """Pitfall: an unfollow removes activities that another followee's outbox also brings."""
    for source in ("alice", "repo:x", "topic:y"):
        await service.follow("bob", source)
    await service.warm("bob")
    via_two = await service.post("alice", to=["repo:x"])
    via_three = await service.post("alice", to=["topic:y", "repo:x"])
    via_one = await service.post("alice")
    page = await service.page("bob")
    assert [
        (activity_id, list(item.via))
        for activity_id, item in zip(ids_on_page(page), page.items, strict=True)
    ] == [
        (via_one, ["alice"]),
        (via_three, ["alice", "repo:x", "topic:y"]),
        (via_two, ["alice", "repo:x"]),
    ]
    await service.unfollow("bob", "alice")
    await assert_feed(service, "bob", [via_three, via_two])
    assert [list(item.via) for item in (await service.page("bob")).items] == [
        ["repo:x", "topic:y"],
        ["repo:x"],
    ]
    await service.unfollow("bob", "repo:x")
    await assert_feed(service, "bob", [via_three])
    await service.unfollow("bob", "topic:y")
    await assert_feed(service, "bob", [])


@pytest.mark.every_store
async def test_unfollow_keeps_the_followers_own_activity(service: Service) -> None:
    """Pitfall: an unfollow removes the user's own activity that was addressed to the followee."""
    await service.follow("bob", "alice")
    await service.follow("bob", "bob's cat")
    own_id = await service.post("bob", to=["alice"])
    await service.post("alice")
    await service.unfollow("bob", "alice")
    await assert_feed(service, "bob", [own_id])


@pytest.mark.every_store
async def test_activity_arrives_once_although_it_has_several_routes(service: Service) -> None:
    """Pitfall: an activity appears in a feed once for each outbox that brings it."""
    for source in ("alice", "repo:x", "topic:y"):
        await service.follow("bob", source)
        await service.follow("carol", source)
    await service.warm("bob")
    published = await service.publish("alice", to=["repo:x", "topic:y", "dave"])
    # Three routes lead to bob. Dave reads his own outbox and follows nobody.
    assert published.delivery.delivered_count == 1
    for name in ("bob", "carol", "dave", "repo:x", "topic:y", "alice"):
        await assert_feed(service, name, [published.activity.id])


@pytest.mark.every_store
async def test_activity_addressed_only_to_others_does_not_reach_the_actors_followers(
    service: Service,
) -> None:
    """Pitfall: an activity for other outboxes only also reaches the actor's followers."""
    await service.follow("bob", "alice")
    await service.follow("carol", "repo:x")
    await service.warm("alice", "bob", "carol", "repo:x")
    activity_id = await service.post("alice", to=["repo:x"], audience=AUDIENCE_TO_ONLY)
    for name, expected in (
        ("alice", []),
        ("bob", []),
        ("carol", [activity_id]),
        ("repo:x", [activity_id]),
    ):
        await assert_feed(service, name, expected)
    assert await service.outbox("alice") == []
    await service.follow("alice", "repo:x")
    await assert_feed(service, "alice", [activity_id])


@pytest.mark.every_store
async def test_delete_removes_the_activity_everywhere(service: Service) -> None:
    """Pitfall: a delete reaches only the present followers, and not the author's own feed."""
    for user in ("warm", "cold", "former"):
        await service.follow(user, "alice")
    await service.follow("other", "repo:x")
    await service.warm("warm", "former", "other", "alice", "repo:x")
    kept_id, deleted_id = await service.post("alice"), await service.post("alice", to=["repo:x"])
    await service.unfollow("former", "alice")
    await service.delete(deleted_id, "alice")
    await service.follow("former", "alice")
    await service.follow("late", "alice")
    for name in ("warm", "cold", "former", "late", "alice"):
        await assert_feed(service, name, [kept_id])
    for name in ("other", "repo:x"):
        await assert_feed(service, name, [])
    assert await service.outbox("alice") == [kept_id]
    assert await service.outbox("repo:x") == []
    assert (await expect_refusal(service.get(deleted_id))).reason == "ACTIVITY_NOT_FOUND"


@pytest.mark.every_store
async def test_fan_out_in_flight_does_not_bring_a_deleted_activity_back(serve: Serve) -> None:
    """Pitfall: a fan-out that was in flight during a delete brings the activity back.

    One process deletes the activity while another one delivers it, again and again.
    """
    server_a = await serve(limits=Limits(push_chunk=1))
    server_b = await serve(limits=Limits(push_chunk=1))
    users = [f"u{number}" for number in range(10)]
    await server_a.follow_all([(user, "alice") for user in users])
    await server_a.warm(*users)
    for number in range(ROUNDS):
        activity: dict[str, Any] = {
            "request_id": f"r{number}",
            "external_id": f"e{number}",
            "to": ["repo:x"],
        }
        deleted_id = (await server_a.publish("alice", **activity)).activity.id
        await asyncio.gather(
            server_b.publish("alice", **activity),
            server_a.delete(deleted_id, "alice"),
            server_b.publish("alice", **activity),
            server_b.page(users[number % 10]),
        )
        assert ids_on_page(await server_b.page(users[number % 10])) == []
    for user in (*users, "alice", "repo:x"):
        await assert_feed(server_b, user, [])


@pytest.mark.every_store
async def test_retry_of_an_interrupted_delete_reaches_all_readers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall: a process that dies during a delete leaves the activity in a part of the feeds.

    The retry also reaches readers to whom only `to` brought the activity.
    """
    await service.follow("bob", "alice")
    await service.follow("carol", "repo:x")
    streams = [await service.subscribe(user) for user in ("bob", "carol", "repo:x")]
    activity_id = await service.post("alice", to=["repo:x", "topic:y"])
    for stream in streams:
        assert await stream.read_event() == ("added", activity_id)
    with monkeypatch.context() as patches:
        patches.setattr(service.server.engine.fanout, "inline", raise_runtime_error)
        await expect_refusal(service.delete(activity_id, "alice", request_id="r"))
    await service.delete(activity_id, "alice", request_id="r")
    for stream in streams:
        assert await stream.read_event() == ("removed", activity_id)


async def raise_runtime_error(*_: object) -> None:
    raise RuntimeError


@pytest.mark.every_store
async def test_call_about_a_deleted_activity_does_not_recreate_it(service: Service) -> None:
    """Pitfall: a call about a deleted activity recreates a fragment that crashes readers."""
    await service.follow("bob", "alice")
    deleted_id = await service.post("alice", external_id="e", request_id="r", to=["repo:x"])
    await service.delete(deleted_id, "alice")
    same_refusal = await expect_refusal(service.publish("alice", external_id="e", to=["repo:x"]))
    assert same_refusal.reason == "ACTIVITY_DELETED"
    other_refusal = await expect_refusal(service.publish("alice", "other", external_id="e"))
    assert other_refusal.reason == "ACTIVITY_DELETED"
    replayed = await service.publish("alice", external_id="e", request_id="r", to=["repo:x"])
    assert (replayed.activity.id, replayed.already_published) == (deleted_id, True)
    for caller in ("alice", "bob", "carol", "dave"):
        refusal = await expect_refusal(service.delete(deleted_id, caller))
        assert refusal.reason == "ACTIVITY_NOT_FOUND"
    assert await service.store.get(service.activity_key(deleted_id)) == b""
    for name in ("alice", "bob", "repo:x"):
        await assert_feed(service, name, [])


@pytest.mark.every_store
async def test_retried_follow_does_not_come_back_after_an_unfollow(service: Service) -> None:
    """Pitfall: the late retry of a follow undoes an unfollow that came after the follow.

    The late retry of an unfollow does not undo a later follow either.
    """
    await service.follow("bob", "alice", request_id="f")
    await service.unfollow("bob", "alice", request_id="u")
    await service.follow("bob", "alice", request_id="f")
    assert await service.counts("alice") == (0, 0)
    await service.follow("bob", "alice", request_id="g")
    assert (await service.unfollow("bob", "alice", request_id="u")).was_following
    assert await service.counts("alice") == (1, 0)
    activity_id = await service.post("alice")
    await assert_feed(service, "bob", [activity_id])
