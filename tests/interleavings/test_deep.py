"""Deep pages, interrupted between any two store calls by what changes what they are read from.

The world: alice has done more than bob's feed keeps, dave some. Bob's feed is warm; its deep
segment is there, or not yet.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from feedsvc.core import deep
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.pages import Cursor
from tests.interleavings.scheduler import GatedStore, order
from tests.interleavings.test_interleavings import (
    LIMITS,
    Act,
    World,
    check_log,
    delete,
    expire,
    follow,
    follow_again,
    nothing,
    publish_and_push,
    publish_own,
    pull,
    push,
    push_again,
    rebuild,
    refollow,
    run,
    unfollow,
    work,
)
from tests.interleavings.truth import Truth

DEEP = replace(LIMITS, feed_slack=0)
#: What alice did before the world began: six more than the feed keeps.
DONE = 16
REMOVING = {unfollow, refollow, delete}


@dataclass
class DeepWorld(World):
    """Bob follows alice, ann and erin; his feed was trimmed."""

    removing: bool = False
    """Whether something is taken from the feed while it is read."""
    following: bool = False
    """Whether bob follows dave meanwhile."""
    made: dict[bool, "tuple[dict[str, int], dict[bytes, tuple[int, bytes]]]"] = field(
        default_factory=dict
    )

    async def reset(self, *, warm: bool) -> None:
        """``warm``: the deep segment is there."""
        self.engine = Engine.on(self.store)
        redis = self.store.redis
        await redis.flushall()
        if warm in self.made:
            self.acts = dict(self.made[warm][0])
            pipeline = redis.pipeline(transaction=False)
            for name, (ttl, content) in self.made[warm][1].items():
                pipeline.restore(name, max(0, ttl), content)
            await pipeline.execute()
            return
        self.acts = {}
        for number, name in enumerate(["d1", "d2"]):
            await self.publish(name, "dave", 1_500 + 1_000 * number)
        for number in range(DONE):
            await self.publish(f"a{number + 1}", "alice", 1_000 * number)
        for followee in ("alice", "ann", "erin"):
            await self.engine.edges.follow([NewEdge("bob", followee)])
        await self.engine.edges.follow([NewEdge("ann", "alice")])
        await self.engine.start_log("bob")
        if warm:
            await read_deep(self)
            assert await redis.exists(f"{self.store.tags[0]}F:bob")
        names = await redis.keys()
        self.made[warm] = (
            dict(self.acts),
            {name: (await redis.pttl(name), await redis.dump(name)) for name in names},
        )

    @property
    def begun_with(self) -> set[int]:
        return {self.acts[f"a{number + 1}"] for number in range(DONE)}


async def read_deep(world: World) -> object:
    """All that is below what is stored: at least what was there before."""
    assert isinstance(world, DeepWorld)
    edge = world.acts["a6"]
    before = {one for one in world.begun_with if one < edge}
    page = await world.engine.feeds.page("bob", Cursor(older=True, id=edge), 30)
    found = [one for one, _ in page.items]
    assert found == sorted(set(found), reverse=True)
    assert world.removing or before <= set(found), "the read lacks something"
    assert not {world.acts["d1"], world.acts["d2"]} & set(found) or world.following
    return None


async def read_up(world: World) -> object:
    """From far below towards newer ids."""
    assert isinstance(world, DeepWorld)
    edge = world.acts["a3"]
    page = await world.engine.feeds.page("bob", Cursor(older=False, id=edge), 30)
    found = [one for one, _ in page.items]
    assert found == sorted(set(found), reverse=True)
    assert world.removing or {one for one in world.begun_with if one > edge} <= set(found)
    return None


async def publish_late(world: World) -> object:
    return await world.publish("a0", "alice", 2_500)


async def publish_late_own(world: World) -> object:
    return await world.publish("b0", "bob", 2_600)


async def publish_late_to_others(world: World) -> object:
    return await world.publish("c0", "carol", 2_700, ("ann", "erin"))


async def publish_twice(world: World) -> object:
    """Two trims."""
    await world.publish("a17", "alice", 30_000)
    return await world.publish("a18", "alice", 31_000)


async def check(world: World, what: str) -> None:
    """At rest the feed equals the query, read twice from its top to its end."""
    await world.at_rest()
    expected = await world.truth.feed("bob")
    for _ in range(2):
        walked: list[int] = []
        cursor: Cursor | None = Cursor()
        while cursor is not None:
            page = await world.engine.feeds.page("bob", cursor, 7)
            walked += [one for one, _ in page.items]
            cursor = None if page.older is None else Cursor(older=True, id=page.older)
        assert walked == expected, what
    assert not (await world.engine.feeds.verify("bob")).differences, what
    await check_log(world, what, set(expected))


async def interrupt(world: DeepWorld, reading: Act, other: Act, prepare: Act = nothing) -> int:
    """One of them is interrupted by all of the other, anywhere; says in how many ways."""
    tried = 0
    for warm in (True, False):
        for first in (0, 1):
            for before in range(40):
                await world.reset(warm=warm)
                await prepare(world)
                choices = [first] * before + [1 - first] * 60
                made, results = await run(
                    world.store, [lambda: reading(world), lambda: other(world)], choices
                )
                what = f"{reading.__name__}, {other.__name__}, {warm}: {order(made)}"
                for result in results:
                    if isinstance(result, BaseException):
                        raise AssertionError(what) from result  # noqa: TRY004
                await check(world, what)
                tried += 1
                # The first one ended before it was to be interrupted.
                if len(made) < before or all(len(step.ready) == 1 for step in made[before:]):
                    break
    return tried


OTHERS: list[Act] = [
    *(publish_late, publish_late_own, publish_late_to_others, publish_twice, publish_own),
    *(unfollow, refollow, follow, follow_again, delete, expire, rebuild, read_deep, read_up),
    *(push_again, work, pull),
]


@pytest_asyncio.fixture
async def world(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DeepWorld]:
    monkeypatch.setattr(deep, "FEW_EDGES", 0)
    monkeypatch.setattr(deep, "LEFT_OUT", 0)
    store = GatedStore.at(store_url, DEEP)
    await store.open()
    yield DeepWorld(store, Engine.on(store), Truth(store.redis, store.tags[0]))
    await store.close()


@pytest.mark.parametrize("other", OTHERS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("reading", [read_deep, read_up], ids=lambda act: act.__name__)
async def test_deep_read_and(world: DeepWorld, reading: Act, other: Act) -> None:
    world.removing, world.following = other in REMOVING, other is follow
    assert await interrupt(world, reading, other) > 2


@pytest.mark.parametrize("other", [push, publish_and_push], ids=lambda act: act.__name__)
async def test_deep_read_and_celebrity_no_more(world: DeepWorld, other: Act) -> None:
    assert await interrupt(world, read_deep, other, prepare=pull) > 2


@pytest.mark.parametrize(
    "others",
    [
        (publish_late, unfollow),
        (publish_late, expire),
        (follow, publish_late),
        (pull, publish_late),
    ],
    ids=lambda acts: "+".join(act.__name__ for act in acts),
)
async def test_deep_read_is_interrupted_by(world: DeepWorld, others: tuple[Act, ...]) -> None:
    """By one after the other, wherever it is."""
    world.removing, world.following = bool(REMOVING & set(others)), follow in others

    async def both(world: World) -> object:
        for act in others:
            await act(world)
        return None

    assert await interrupt(world, read_deep, both) > 2


async def test_process_that_builds_a_segment_dies(world: DeepWorld) -> None:
    """What it leaves behind is never read, and expires."""
    for calls in range(20):
        await world.reset(warm=False)
        _, results = await run(world.store, [lambda: read_deep(world)], [], crash=(0, calls))
        await publish_late(world)
        await check(world, f"dies after {calls}")
        if results:
            return
    raise AssertionError("never ran to its end")
