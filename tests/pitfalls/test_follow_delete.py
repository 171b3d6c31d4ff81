"""Mistakes that feed systems make when somebody follows, unfollows or deletes."""

import asyncio
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity

from feedsvc.config import Limits
from tests.serving import Serve, Service, ids_of, refused

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=40)
#: Rounds of things that happen at once; each round takes them in another order.
ROUNDS = 40


async def right(service: Service, user: str, expected: list[str]) -> None:
    """The feed is what it must be, as stored and when it is built anew."""
    assert await service.feed(user) == expected
    found = await service.verify(user)
    assert list(found.differences) == []
    await service.chill(user)
    assert await service.feed(user) == expected


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_following_shows_nothing_until_the_next_post(service: Service, *, warm: bool) -> None:
    posted = await service.posts("alice", 30)
    if warm:
        await service.warm("bob")
    await service.follow("bob", "alice")
    assert ids_of(await service.page("bob", size=100)) == posted[::-1]
    await right(service, "bob", posted[::-1])


@pytest.mark.every_store
@pytest.mark.parametrize("warm", [True, False])
async def test_following_again_brings_back_20_of_300(service: Service, *, warm: bool) -> None:
    await service.follow("bob", "alice")
    posted = await service.posts("alice", 300)
    await right(service, "bob", posted[::-1])
    await service.unfollow("bob", "alice")
    if warm:
        await service.warm("bob")
    await service.follow("bob", "alice")
    await right(service, "bob", posted[::-1])


async def test_following_a_full_outbox_makes_the_feed_lack_what_others_brought(
    serve: Serve,
) -> None:
    service = await serve(limits=SMALL)
    await service.follow("bob", "alice")
    early = await service.posts("alice", 15)
    await service.warm("bob")
    late = await service.posts("carol", 15)
    await service.follow("bob", "carol")
    await right(service, "bob", (early + late)[::-1])
    assert (await service.stats("bob")).entry_count <= 12


async def test_following_in_a_batch_shows_only_some(service: Service) -> None:
    authors = [f"a{number}" for number in range(120)]
    posted = await service.post_all(
        [Activity(actor=author, verb="post") for author in authors for _ in range(3)]
    )
    await service.warm("bob")
    await service.follow_all([("bob", author) for author in authors])
    await right(service, "bob", sorted(posted, reverse=True))


@pytest.mark.every_store
async def test_unfollow_then_post_in_flight_comes_back(serve: Serve) -> None:
    """Unfollowed on one process while another one publishes: what is posted is never seen again."""
    here, there = await serve(), await serve()
    for number in range(ROUNDS):
        user, author = f"u{number}", f"a{number}"
        await here.follow(user, author)
        own = await here.post(user)
        await here.warm(user)
        await asyncio.gather(
            *(there.post(author) for _ in range(number % 3)),
            here.unfollow(user, author),
            there.page(user),
            there.post(author),
        )
        await right(here, user, [own])


@pytest.mark.every_store
async def test_unfollow_then_rebuild_in_flight_comes_back(serve: Serve) -> None:
    here, there = await serve(), await serve()
    for number in range(ROUNDS):
        user, author = f"u{number}", f"a{number}"
        await here.follow(user, author)
        await there.post(author)
        await asyncio.gather(
            there.page(user), here.unfollow(user, author), there.rebuild(user), there.page(user)
        )
        await right(here, user, [])


@pytest.mark.every_store
async def test_follow_while_a_post_is_in_flight_loses_it(serve: Serve) -> None:
    here, there = await serve(), await serve()
    for number in range(ROUNDS):
        user, author = f"u{number}", f"a{number}"
        if number % 2:
            await here.warm(user)
        posted = await asyncio.gather(
            there.post(author), here.follow(user, author), there.post(author), here.page(user)
        )
        await right(here, user, sorted({posted[0], posted[2]}, reverse=True))


@pytest.mark.every_store
async def test_unfollow_takes_what_also_arrives_by_another_route(service: Service) -> None:
    for source in ("alice", "repo:x", "topic:y"):
        await service.follow("bob", source)
    await service.warm("bob")
    both = await service.post("alice", to=["repo:x"])
    three = await service.post("alice", to=["topic:y", "repo:x"])
    only = await service.post("alice")
    page = await service.page("bob")
    assert [(one, list(item.via)) for one, item in zip(ids_of(page), page.items, strict=True)] == [
        (only, ["alice"]),
        (three, ["alice", "repo:x", "topic:y"]),
        (both, ["alice", "repo:x"]),
    ]
    await service.unfollow("bob", "alice")
    await right(service, "bob", [three, both])
    assert [list(item.via) for item in (await service.page("bob")).items] == [
        ["repo:x", "topic:y"],
        ["repo:x"],
    ]
    await service.unfollow("bob", "repo:x")
    await right(service, "bob", [three])
    await service.unfollow("bob", "topic:y")
    await right(service, "bob", [])


@pytest.mark.every_store
async def test_unfollow_takes_ones_own(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.follow("bob", "bob's cat")
    own = await service.post("bob", to=["alice"])
    await service.post("alice")
    await service.unfollow("bob", "alice")
    await right(service, "bob", [own])


@pytest.mark.every_store
async def test_activity_arrives_once_for_each_route(service: Service) -> None:
    for source in ("alice", "repo:x", "topic:y"):
        await service.follow("bob", source)
        await service.follow("carol", source)
    await service.warm("bob")
    published = await service.publish("alice", to=["repo:x", "topic:y", "dave"])
    # Three routes to bob; dave's own feed is nobody's follower.
    assert published.delivery.delivered_count == 1
    for name in ("bob", "carol", "dave", "repo:x", "topic:y", "alice"):
        await right(service, name, [published.activity.id])


@pytest.mark.every_store
async def test_addressed_only_reaches_the_actors_followers(service: Service) -> None:
    await service.follow("bob", "alice")
    await service.follow("carol", "repo:x")
    await service.warm("alice", "bob", "carol", "repo:x")
    posted = await service.post("alice", to=["repo:x"], audience=AUDIENCE_TO_ONLY)
    for name, expected in (("alice", []), ("bob", []), ("carol", [posted]), ("repo:x", [posted])):
        await right(service, name, expected)
    assert await service.outbox("alice") == []
    await service.follow("alice", "repo:x")
    await right(service, "alice", [posted])


@pytest.mark.every_store
async def test_delete_reaches_todays_followers_only(service: Service) -> None:
    """Neither the author's own feed nor any other place may go on to show it."""
    for user in ("warm", "cold", "left"):
        await service.follow(user, "alice")
    await service.follow("other", "repo:x")
    await service.warm("warm", "left", "other", "alice", "repo:x")
    kept, gone = await service.post("alice"), await service.post("alice", to=["repo:x"])
    await service.unfollow("left", "alice")
    await service.delete(gone, "alice")
    await service.follow("left", "alice")
    await service.follow("late", "alice")
    for name in ("warm", "cold", "left", "late", "alice"):
        await right(service, name, [kept])
    for name in ("other", "repo:x"):
        await right(service, name, [])
    assert await service.outbox("alice") == [kept]
    assert await service.outbox("repo:x") == []
    assert (await refused(service.get(gone))).reason == "ACTIVITY_NOT_FOUND"


@pytest.mark.every_store
async def test_delete_and_a_fan_out_in_flight_brings_it_back(serve: Serve) -> None:
    """Deleted on one process while another delivers it, again and again."""
    here, there = await serve(limits=Limits(push_chunk=1)), await serve(limits=Limits(push_chunk=1))
    users = [f"u{number}" for number in range(10)]
    await here.follow_all([(user, "alice") for user in users])
    await here.warm(*users)
    for number in range(ROUNDS):
        activity: dict[str, Any] = {
            "request_id": f"r{number}",
            "external_id": f"e{number}",
            "to": ["repo:x"],
        }
        gone = (await here.publish("alice", **activity)).activity.id
        await asyncio.gather(
            there.publish("alice", **activity),
            here.delete(gone, "alice"),
            there.publish("alice", **activity),
            there.page(users[number % 10]),
        )
        assert ids_of(await there.page(users[number % 10])) == []
    for user in (*users, "alice", "repo:x"):
        await right(there, user, [])


@pytest.mark.every_store
async def test_delete_reaches_only_some_if_the_process_dies_in_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again it tells all the others, also those whom only `to` had brought it to."""
    await service.follow("bob", "alice")
    await service.follow("carol", "repo:x")
    streams = [await service.subscribe(user) for user in ("bob", "carol", "repo:x")]
    posted = await service.post("alice", to=["repo:x", "topic:y"])
    for stream in streams:
        assert await stream.event() == ("added", posted)
    with monkeypatch.context() as here:
        here.setattr(service.server.engine.fanout, "inline", dies)
        await refused(service.delete(posted, "alice", request_id="r"))
    await service.delete(posted, "alice", request_id="r")
    for stream in streams:
        assert await stream.event() == ("removed", posted)


async def dies(*_: object) -> None:
    raise RuntimeError


@pytest.mark.every_store
async def test_touching_a_deleted_activity_recreates_it_as_a_fragment(service: Service) -> None:
    await service.follow("bob", "alice")
    gone = await service.post("alice", external_id="e", request_id="r", to=["repo:x"])
    await service.delete(gone, "alice")
    again = await refused(service.publish("alice", external_id="e", to=["repo:x"]))
    assert again.reason == "ACTIVITY_DELETED"
    other = await refused(service.publish("alice", "other", external_id="e"))
    assert other.reason == "ACTIVITY_DELETED"
    replayed = await service.publish("alice", external_id="e", request_id="r", to=["repo:x"])
    assert (replayed.activity.id, replayed.already_published) == (gone, True)
    for anyone in ("alice", "bob", "carol", "dave"):
        refusal = await refused(service.delete(gone, anyone))
        assert refusal.reason == "ACTIVITY_NOT_FOUND"
    assert await service.store.get(service.activity_key(gone)) == b""
    for name in ("alice", "bob", "repo:x"):
        await right(service, name, [])


@pytest.mark.every_store
async def test_edges_of_a_retry_come_back(service: Service) -> None:
    """A retry of a follow after an unfollow is not another follow, nor the other way round."""
    await service.follow("bob", "alice", request_id="f")
    await service.unfollow("bob", "alice", request_id="u")
    await service.follow("bob", "alice", request_id="f")
    assert await service.counts("alice") == (0, 0)
    await service.follow("bob", "alice", request_id="g")
    assert (await service.unfollow("bob", "alice", request_id="u")).was_following
    assert await service.counts("alice") == (1, 0)
    posted = await service.post("alice")
    await right(service, "bob", [posted])
