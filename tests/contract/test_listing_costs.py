"""What a page of edges asks of the store: a little, however many edges there are."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from activityfeed.v1.follow_service_pb2 import ListFollowersRequest, ListFollowingRequest

from feedsvc.config import Limits
from feedsvc.core import following, ids, keys
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.following import Followings
from feedsvc.core.store import Arg, Store
from tests.serving import Serve, Service

MANY = 1_500


@contextmanager
def counted(asked: Counter[str], answered: Callable[[str, Any], int] | None = None) -> Any:
    """Counts the commands of the core, and what of the answers of scripts is to be counted."""
    call, script = Store.call, Store.script

    def counting(self: Store, *command: Arg, **rest: Any) -> "asyncio.Future[Any]":
        asked[str(command[0])] += 1
        return call(self, *command, **rest)

    async def scripting(self: Store, name: str, shards: Any, *arguments: Arg, **rest: Any) -> Any:
        asked[name] += 1
        answer = await script(self, name, shards, *arguments, **rest)
        if answered is not None:
            asked["answered"] += answered(name, answer)
        return answer

    with patch.object(Store, "call", counting), patch.object(Store, "script", scripting):
        yield


async def test_following_is_read_and_sorted_once_for_all_pages(serve: Serve) -> None:
    service = await serve()
    names = [f"a{number}" for number in range(MANY)]
    await service.follow_all([("bob", name) for name in names])

    async def pages() -> list[str]:
        found, token = [], ""
        for _ in range(3):
            page = await service.follows.ListFollowing(
                ListFollowingRequest(entity="bob", page_size=1, page_token=token)
            )
            found += [edge.followee for edge in page.edges]
            token = page.next_page_token
        return found

    asked: Counter[str] = Counter()
    with counted(asked):
        for found in await asyncio.gather(*(pages() for _ in range(64))):
            assert found == names[:-4:-1]
    assert asked["HGETALL"] == asked["HKEYS"] == 0
    assert asked["HSCAN"] <= 2 * MANY // following.EDGES_A_READ + 2
    assert asked["HGET"] <= 64 * 3 + 2 * 64
    # And then again when an edge has changed, by whichever process.
    other = await serve()
    await other.unfollow("bob", names[-2])
    assert await pages() == [names[-1], names[-3], names[-4]]
    await other.follow("bob", names[-2])
    assert await pages() == [names[-2], names[-1], names[-3]]


@pytest.fixture
async def core_store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.at(store_url, Limits())
    await opened.open()
    yield opened
    await opened.close()


async def follow(store: Store, follower: str, count: int) -> list[str]:
    edges = [NewEdge(follower, f"a{number}") for number in range(count)]
    await Engine.on(store).edges.follow(edges)
    return [edge.followee for edge in reversed(edges)]


async def test_lists_that_are_kept_are_bounded(
    core_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = core_store
    monkeypatch.setattr(following, "KEPT_EDGES", 50)
    lists = Followings(store)
    for number in range(20):
        names = await follow(store, f"f{number}", 12)
        assert (await lists.of(f"f{number}")).names == names
        assert lists._edges == sum(len(one.names) for one in lists._kept.values()) <= 50
    assert list(lists._kept) == [f"f{number}" for number in (16, 17, 18, 19)]
    assert (await lists.of("f3")).names == names
    await follow(store, "fan", 60)
    assert len((await lists.of("fan")).names) == 60
    assert lists._edges == 0


async def test_list_of_an_edge_that_the_store_has_lost(core_store: Store) -> None:
    """After a loss the generation may come back with other edges: another era tells."""
    store = core_store
    lists = Followings(store)
    await follow(store, "bob", 3)
    shard = ids.shard_for("bob", store.limits.shards)
    key = keys.edges(store.tags[shard], "bob")
    snapshot = await store.call("DUMP", key)
    await Engine.on(store).edges.unfollow(NewEdge("bob", "a0"))
    assert (await lists.of("bob")).names == ["a2", "a1"]
    generation = await store.call("HGET", key, "")
    await store.call("RESTORE", key, 0, snapshot, "REPLACE")
    store.eras[shard] = "another"
    await store.call("HSET", store.tags[shard] + "t", "era", "another")
    await Engine.on(store).edges.unfollow(NewEdge("bob", "a2"))
    assert await store.call("HGET", key, "") == generation
    assert (await lists.of("bob")).names == ["a1", "a0"]
    await store.call("DEL", key)
    assert (await lists.of("bob")).names == []


async def test_edge_changes_while_a_long_list_is_read(core_store: Store) -> None:
    """The parts of a list are of one moment, however often it is begun again."""
    store = core_store
    names = await follow(store, "bob", MANY)
    edges = Engine.on(store).edges
    changes = most = 0
    call = Store.call

    def changing(self: Store, *command: Arg) -> "asyncio.Future[Any]":
        async def change() -> Any:
            nonlocal changes
            answer = await call(self, *command)
            changes += 1
            with patch.object(Store, "call", call):
                await edges.unfollow(NewEdge("bob", names.pop(0)))
                await edges.follow([NewEdge("bob", f"late {changes}")])
            names.insert(0, f"late {changes}")
            return answer

        if command[0] == "HSCAN" and changes < most:
            return asyncio.ensure_future(change())
        return call(self, *command)

    async def reads(at_most: int) -> None:
        nonlocal changes, most
        changes, most = 0, at_most
        with patch.object(Store, "call", changing):
            assert (await Followings(store).of("bob")).names == names
        assert changes

    await reads(2)
    await reads(1_000)


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 10, 100])
async def test_page_of_followers_reads_a_few_of_each_shard(serve: Serve, size: int) -> None:
    service = await serve()
    await service.follow_all([(f"f{number}", "alice") for number in range(MANY)])
    found, token = list[str](), ""
    pages = 0

    def entries(name: str, answer: Any) -> int:
        return sum(len(flat) // 2 for flat in answer) if name == "followers_read" else 0

    asked: Counter[str] = Counter()
    with counted(asked, entries):
        for _ in range(5):
            page = await service.follows.ListFollowers(
                ListFollowersRequest(entity="alice", page_size=size, page_token=token)
            )
            found += [edge.follower for edge in page.edges]
            token, pages = page.next_page_token, pages + 1
    shards = service.server.config.limits.shards
    assert asked["answered"] <= pages * (8 * shards + 6 * size)
    if not service.server.engine.store.cluster:
        assert asked["followers_read"] <= 3 * pages
    assert found == (await service.followers("alice", 5_000))[: 5 * size]


async def listed(service: Service) -> list[str]:
    return await service.following("bob", 2)


@pytest.mark.every_store
async def test_own_changes_are_in_the_next_list(serve: Serve) -> None:
    """Whatever is kept: an edge that was acknowledged is listed, and one that ended is not."""
    here, there = await serve(), await serve()
    expected: list[str] = []
    for number in range(12):
        await (here if number % 2 else there).follow("bob", f"a{number}")
        expected.insert(0, f"a{number}")
        if number % 3 == 2:
            gone = expected.pop(1)
            await here.unfollow("bob", gone)
        assert await listed(here) == await listed(there) == expected
    await here.store.flushall()
    assert await listed(here) == []
