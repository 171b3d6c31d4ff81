"""What a page of edges asks of the store: little, however many edges exist."""

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

EDGE_COUNT = 1_500


@contextmanager
def count_commands(
    counts: Counter[str], count_answer: Callable[[str, Any], int] | None = None
) -> Any:
    """Count the core's commands and scripts, and `count_answer` of each script's answer."""
    run_command, run_script = Store.call, Store.script

    def count_and_call(self: Store, *command: Arg, **options: Any) -> "asyncio.Future[Any]":
        counts[str(command[0])] += 1
        return run_command(self, *command, **options)

    async def count_and_run(
        self: Store, name: str, shards: Any, *arguments: Arg, **options: Any
    ) -> Any:
        counts[name] += 1
        answer = await run_script(self, name, shards, *arguments, **options)
        if count_answer is not None:
            counts["answered"] += count_answer(name, answer)
        return answer

    with patch.object(Store, "call", count_and_call), patch.object(Store, "script", count_and_run):
        yield


async def test_following_is_read_and_sorted_once_for_all_pages(serve: Serve) -> None:
    service = await serve()
    names = [f"a{number}" for number in range(EDGE_COUNT)]
    await service.follow_all([("bob", name) for name in names])

    async def first_pages() -> list[str]:
        followees, token = [], ""
        for _ in range(3):
            page = await service.follows.ListFollowing(
                ListFollowingRequest(entity="bob", page_size=1, page_token=token)
            )
            followees += [edge.followee for edge in page.edges]
            token = page.next_page_token
        return followees

    counts: Counter[str] = Counter()
    with count_commands(counts):
        for followees in await asyncio.gather(*(first_pages() for _ in range(64))):
            assert followees == names[:-4:-1]
    assert counts["HGETALL"] == counts["HKEYS"] == 0
    assert counts["HSCAN"] <= 2 * EDGE_COUNT // following.EDGES_A_READ + 2
    assert counts["HGET"] <= 64 * 3 + 2 * 64
    # Any process's change of an edge makes the server read the list again.
    other_server = await serve()
    await other_server.unfollow("bob", names[-2])
    assert await first_pages() == [names[-1], names[-3], names[-4]]
    await other_server.follow("bob", names[-2])
    assert await first_pages() == [names[-2], names[-1], names[-3]]


@pytest.fixture
async def core_store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.at(store_url, Limits())
    await opened.open()
    yield opened
    await opened.close()


async def follow(store: Store, follower: str, count: int) -> list[str]:
    """Make a follower follow `count` entities; return their names, newest edge first."""
    edges = [NewEdge(follower, f"a{number}") for number in range(count)]
    await Engine.on(store).edges.follow(edges)
    return [edge.followee for edge in reversed(edges)]


async def test_cached_following_lists_are_bounded(
    core_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = core_store
    monkeypatch.setattr(following, "KEPT_EDGES", 50)
    lists = Followings(store)
    for number in range(20):
        names = await follow(store, f"f{number}", 12)
        assert (await lists.of(f"f{number}")).names == names
        assert (
            lists._kept_edges
            == sum(len(following_list.names) for following_list in lists._kept.values())
            <= 50
        )
    assert list(lists._kept) == [f"f{number}" for number in (16, 17, 18, 19)]
    assert (await lists.of("f3")).names == names
    await follow(store, "fan", 60)
    assert len((await lists.of("fan")).names) == 60
    assert lists._kept_edges == 0


async def test_cached_following_list_is_read_again_after_a_loss_of_the_store(
    core_store: Store,
) -> None:
    """After a loss the same generation may come back with other edges; the era tells them apart."""
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


async def test_long_following_list_shows_a_single_moment(core_store: Store) -> None:
    """The read begins again when an edge changes, however often that happens."""
    store = core_store
    names = await follow(store, "bob", EDGE_COUNT)
    edges = Engine.on(store).edges
    changes = max_changes = 0
    run_command = Store.call

    def call_and_change(self: Store, *command: Arg) -> "asyncio.Future[Any]":
        async def change() -> Any:
            nonlocal changes
            answer = await run_command(self, *command)
            changes += 1
            with patch.object(Store, "call", run_command):
                await edges.unfollow(NewEdge("bob", names.pop(0)))
                await edges.follow([NewEdge("bob", f"late {changes}")])
            names.insert(0, f"late {changes}")
            return answer

        if command[0] == "HSCAN" and changes < max_changes:
            return asyncio.ensure_future(change())
        return run_command(self, *command)

    async def check_read(limit: int) -> None:
        nonlocal changes, max_changes
        changes, max_changes = 0, limit
        with patch.object(Store, "call", call_and_change):
            assert (await Followings(store).of("bob")).names == names
        assert changes

    await check_read(2)
    await check_read(1_000)


@pytest.mark.every_store
@pytest.mark.parametrize("size", [1, 10, 100])
async def test_page_of_followers_reads_few_entries_of_each_shard(serve: Serve, size: int) -> None:
    service = await serve()
    await service.follow_all([(f"f{number}", "alice") for number in range(EDGE_COUNT)])
    followers, token = list[str](), ""
    page_count = 0

    def count_entries(name: str, answer: Any) -> int:
        return sum(len(fields) // 2 for fields in answer) if name == "followers_read" else 0

    counts: Counter[str] = Counter()
    with count_commands(counts, count_entries):
        for _ in range(5):
            page = await service.follows.ListFollowers(
                ListFollowersRequest(entity="alice", page_size=size, page_token=token)
            )
            followers += [edge.follower for edge in page.edges]
            token, page_count = page.next_page_token, page_count + 1
    shards = service.server.config.limits.shards
    assert counts["answered"] <= page_count * (8 * shards + 6 * size)
    if not service.server.engine.store.cluster:
        assert counts["followers_read"] <= 3 * page_count
    assert followers == (await service.followers("alice", 5_000))[: 5 * size]


async def list_following(service: Service) -> list[str]:
    return await service.following("bob", 2)


@pytest.mark.every_store
async def test_next_list_shows_every_acknowledged_change(serve: Serve) -> None:
    """No cache hides a new edge or shows an edge that has ended."""
    server_a, server_b = await serve(), await serve()
    expected: list[str] = []
    for number in range(12):
        await (server_a if number % 2 else server_b).follow("bob", f"a{number}")
        expected.insert(0, f"a{number}")
        if number % 3 == 2:
            unfollowed = expected.pop(1)
            await server_a.unfollow("bob", unfollowed)
        assert await list_following(server_a) == await list_following(server_b) == expected
    await server_a.store.flushall()
    assert await list_following(server_a) == []
