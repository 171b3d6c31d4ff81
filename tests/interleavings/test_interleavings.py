"""Every pair of operations, in every order of store calls: then the feed equals the query.

The world: ann and bob follow alice, who did two things; bob may follow dave, who did two as well.
It is set up anew for each interleaving, with bob's feed warm or cold, and with bob live.

Each delivery is left to workers after its first follower. What is left when the operations have
ended, or their process has died, workers do before anybody looks.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import pytest
import pytest_asyncio

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.core.activities import Audience, NewActivity, digest
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.fanout import Run
from feedsvc.core.job import Job, Kind, Progress
from feedsvc.core.live_logs import Entry
from feedsvc.core.pages import Cursor, End, Page
from feedsvc.core.sources import Source
from feedsvc.errors import ActivityNotFound
from tests.interleavings.scheduler import GatedStore, next_choices, order, run
from tests.interleavings.truth import Truth
from tests.serving import frame_of

#: Each follower is a chunk of its own. Nobody becomes a celebrity by itself, and who was made one
#: stays so as long as anybody follows.
LIMITS = Limits(
    shards=1,
    feed_cap=10,
    feed_slack=2,
    outbox_cap=20,
    push_chunk=1,
    inline_audience=1,
    job_tries=100,
    celebrity_threshold=3,
    celebrity_lower_percent=34,
    log_lease=86_400,
)
#: How many times operations are interrupted by each other, at the most.
INTERRUPTIONS = 2
PEOPLE = {"alice", "ann", "bob", "dave", "erin"}
BASE_MS = int(time.time() * 1000) - 60_000


#: The ids of what was done, and the keys of the store with their expiry and content.
Copy = tuple[dict[str, int], dict[bytes, tuple[int, bytes]]]


@dataclass
class World:
    """The engine under test, and what the test knows of the store."""

    store: GatedStore
    engine: Engine
    truth: Truth
    acts: dict[str, int] = field(default_factory=dict)
    copies: dict[bool, Copy] = field(default_factory=dict)
    """The world when it was made, with a warm feed and with a cold one."""

    async def reset(self, *, warm: bool) -> None:
        """Makes the world anew: the first time by living it, then from a copy."""
        self.engine = Engine.on(self.store)
        pipeline = self.store.redis.pipeline(transaction=False)
        pipeline.flushall()
        if warm in self.copies:
            self.acts, copy = dict(self.copies[warm][0]), self.copies[warm][1]
            for name, (ttl, content) in copy.items():
                pipeline.restore(name, max(0, ttl), content)
            await pipeline.execute()
            return
        await pipeline.execute()
        self.acts = {}
        for number, name in enumerate(["a1", "d1", "a2", "d2"]):
            await self.publish(name, "alice" if name[0] == "a" else "dave", number * 1000)
        for follower in ("ann", "bob"):
            await self.engine.edges.follow([NewEdge(follower, "alice")])
        if warm:
            await self.engine.start_log("bob")
        else:
            await self.engine.logs.open(self.engine.logs.of_feed("bob"))
        names = await self.store.redis.keys()
        self.copies[warm] = (
            dict(self.acts),
            {
                name: (await self.store.redis.pttl(name), await self.store.redis.dump(name))
                for name in names
            },
        )

    @property
    def begun_with(self) -> set[int]:
        """What bob's feed held when his log began."""
        return {self.acts["a1"], self.acts["a2"]}

    async def at_rest(self) -> None:
        """Workers do what is left, as when all leases have run out."""
        await self.engine.workers.work(everything=True)

    async def publish(self, name: str, actor: str, after_ms: int, to: tuple[str, ...] = ()) -> int:
        """An activity, placed a while after the world began."""
        new = NewActivity(
            *(actor, to, True, BASE_MS + after_ms, name),
            *(frame_of(actor, name), digest(name.encode())),
        )
        self.acts[name] = (await self.engine.activities.publish(new, "")).id
        return self.acts[name]

    async def log(self) -> list[Entry]:
        first = await self.store.redis.xrange(f"{self.store.tags[0]}l:bob", count=1)
        log = self.engine.logs.of_feed("bob")
        entries, _ = await self.engine.logs.read(log, first[0][0].decode())
        return entries


Act = Callable[[World], Awaitable[object]]


async def publish_by_followee(world: World) -> object:
    return await world.publish("a3", "alice", 5_000)


async def publish_by_stranger(world: World) -> object:
    return await world.publish("d3", "dave", 6_000)


async def publish_old(world: World) -> object:
    return await world.publish("a0", "alice", 500)


async def publish_own(world: World) -> object:
    return await world.publish("b1", "bob", 4_000)


async def publish_to_both(world: World) -> object:
    """By a stranger, to one whom bob follows and one whom he may follow."""
    return await world.publish("e1", "erin", 7_000, ("alice", "dave"))


async def work(world: World) -> object:
    """A worker that takes everything, also what others are doing."""
    for one in await world.engine.workers.take(everything=True):
        await world.engine.workers.do(one)
    return None


async def push_again(world: World) -> object:
    """A job that was done is done again."""
    job = Job(Kind.DELIVER, world.acts["a1"], "alice")
    source = Source("alice", [0], "")
    run = Run(job, Progress(), lambda: nullcontext(world.store), lambda: 1)
    return await world.engine.fanout.work(run, [source])


async def pull(world: World) -> object:
    """Alice has become a celebrity: her followers are flipped."""
    await world.store.script("flip_begin", 0, "alice", "pull")
    return await work(world)


async def pull_and_push(world: World) -> object:
    """And is one no more."""
    await pull(world)
    await world.store.script("flip_begin", 0, "alice", "push")
    return await work(world)


async def push(world: World) -> object:
    """Alice, who was a celebrity, is none any more."""
    await world.store.script("flip_begin", 0, "alice", "push")
    return await work(world)


async def publish_and_push(world: World) -> object:
    """What a celebrity did last."""
    await publish_by_followee(world)
    return await push(world)


async def push_and_pull(world: World) -> object:
    await publish_and_push(world)
    await world.store.script("flip_begin", 0, "alice", "pull")
    return await work(world)


async def pull_stranger(world: World) -> object:
    await world.store.script("flip_begin", 0, "dave", "pull")
    return await work(world)


async def rebuild(world: World) -> object:
    return await world.engine.feeds.rebuild("bob")


async def read(world: World) -> Page:
    return await world.engine.feeds.page("bob", Cursor(), 10)


async def follow(world: World) -> object:
    return await world.engine.edges.follow([NewEdge("bob", "dave")])


async def follow_again(world: World) -> object:
    return await world.engine.edges.follow([NewEdge("bob", "alice")])


async def unfollow(world: World) -> object:
    return await world.engine.edges.unfollow(NewEdge("bob", "alice"))


async def refollow(world: World) -> object:
    await world.engine.edges.unfollow(NewEdge("bob", "alice"))
    return await world.engine.edges.follow([NewEdge("bob", "alice")])


async def unfollow_new(world: World) -> object:
    return await world.engine.edges.unfollow(NewEdge("bob", "dave"))


async def other_unfollows(world: World) -> object:
    return await world.engine.edges.unfollow(NewEdge("ann", "alice"))


async def follow_and_all_that(world: World) -> object:
    """Ends the edge to dave, reads, and makes it anew; dave publishes while there is none."""
    await unfollow_new(world)
    await read(world)
    await publish_by_stranger(world)
    return await follow(world)


async def delete(world: World) -> object:
    with suppress(ActivityNotFound):  # the other one was first
        await world.engine.activities.delete(world.acts["a1"], Audience("alice"), b"", "")
    return None


async def expire(world: World) -> object:
    return await world.store.call("DEL", keys.feed(world.store.tags[0], "bob"))


async def start_log(world: World) -> object:
    return await world.engine.start_log("bob")


def _name(operations: tuple[Act, ...]) -> str:
    return "+".join(act.__name__ for act in operations)


OPERATIONS: list[Act] = [
    publish_by_followee,
    publish_by_stranger,
    publish_old,
    publish_own,
    publish_to_both,
    push_again,
    work,
    pull,
    pull_and_push,
    pull_stranger,
    rebuild,
    read,
    follow,
    follow_again,
    unfollow,
    refollow,
    unfollow_new,
    other_unfollows,
    delete,
    expire,
    start_log,
]
#: With so many calls that pairs of them take minutes.
LONG = {publish_to_both, pull, pull_and_push, pull_stranger}
#: What is quick of those that take longest: the other pairs have most of their steps too.
QUICK_PAIRS = [
    (publish_by_followee, pull_and_push),
    (work, pull_and_push),
    (pull_and_push, unfollow),
]


def _slow(pair: tuple[Act, ...]) -> bool:
    return LONG.issuperset(pair) or (pull_and_push in pair and pair not in QUICK_PAIRS)


PAIRS = [
    pytest.param(pair, marks=[pytest.mark.slow] if _slow(pair) else [], id=_name(pair))
    for pair in combinations_with_replacement(OPERATIONS, 2)
]
TRIPLES = [
    (publish_by_followee, unfollow, expire),
    (publish_by_stranger, follow, expire),
    (publish_by_stranger, follow, unfollow_new),
    (publish_by_followee, delete, expire),
    (publish_old, unfollow, follow_again),
    (follow, unfollow_new, expire),
]
LONG_TRIPLES = [
    (publish_by_followee, rebuild, unfollow),
    (publish_by_stranger, rebuild, follow),
    (publish_by_followee, read, expire),
    (publish_by_stranger, follow, refollow),
    (rebuild, follow, expire),
    (rebuild, unfollow, expire),
]


@pytest_asyncio.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    store = GatedStore.at(store_url, LIMITS)
    await store.open()
    yield World(store, Engine.on(store), Truth(store.redis, store.tags[0]))
    await store.close()


@pytest_asyncio.fixture
async def wide(store_url: str) -> AsyncIterator[World]:
    """A world in which whoever publishes reaches everybody, so that no worker does it again."""
    limits = replace(LIMITS, push_chunk=8, inline_audience=8)
    store = GatedStore.at(store_url, limits)
    await store.open()
    yield World(store, Engine.on(store), Truth(store.redis, store.tags[0]))
    await store.close()


async def check(world: World, what: str) -> None:
    """At rest the feed equals the query, whatever state the cache was left in."""
    await world.at_rest()
    await world.truth.check_edges(PEOPLE)
    expected = await world.truth.feed("bob")
    for look in ("first", "second"):
        walked: list[int] = []
        cursor = Cursor()
        while True:
            page = await world.engine.feeds.page("bob", cursor, 2)
            walked += [one for one, _ in page.items]
            if page.older is None:
                break
            cursor = Cursor(older=True, id=page.older)
        assert page.end is End.FEED, what
        assert walked == expected, f"{what}: {look} read"
    verified = await world.engine.feeds.verify("bob")
    assert not verified.differences, what
    await check_log(world, what, set(expected))


async def check_log(world: World, what: str, expected: set[int]) -> None:
    """The log tells each thing once, and all that came or went."""
    told = [(entry.kind, entry.what) for entry in await world.log()]
    once = [event for event in told if event[0] in ("added", "removed")]
    assert len(once) == len(set(once)), f"{what}: told twice: {told}"
    if any(kind in ("followed", "unfollowed") for kind, _ in told):
        return  # the client reads the feed again
    known = world.begun_with | {int(one) for kind, one in told if kind == "added"}
    known -= {int(one) for kind, one in told if kind == "removed"}
    assert known == expected, f"{what}: told {told}"


async def nothing(world: World) -> object:
    return None


async def explore(
    world: World,
    operations: tuple[Act, ...],
    prepare: Act = nothing,
    interruptions: int = INTERRUPTIONS,
) -> int:
    """Tries the interleavings, each after some preparation; says how many there were."""
    tried = 0
    for warm in (True, False):
        choices: list[int] | None = []
        while choices is not None:
            await world.reset(warm=warm)
            await prepare(world)
            before = set(await world.truth.feed("bob"))
            made, results = await run(
                world.store, [lambda act=act: act(world) for act in operations], choices
            )
            what = f"{[act.__name__ for act in operations]} warm={warm} {order(made)}"
            for result in results:
                if isinstance(result, BaseException):
                    pytest.fail(f"{what}: {result!r}")
                if isinstance(result, Page):
                    check_read(world, operations, result, before, what)
            await check(world, what)
            choices = next_choices(made, interruptions)
            tried += 1
    return tried


def check_read(
    world: World, operations: tuple[Act, ...], page: Page, before: set[int], what: str
) -> None:
    """A read among other things: what nobody touched, and nothing that never was in the feed."""
    found = {one for one, _ in page.items}
    removing = {unfollow, refollow, delete} & set(operations)
    assert removing or before <= found, f"{what}: the read lacks something"
    assert found <= set(world.acts.values()), what
    if follow not in operations:
        strange = {one for name, one in world.acts.items() if name[0] == "d"}
        assert not found & strange, f"{what}: the read shows a stranger's"


def _one_name(act: Act) -> str:
    return act.__name__


@pytest.mark.parametrize("operations", PAIRS)
async def test_pair(world: World, operations: tuple[Act, ...]) -> None:
    assert await explore(world, operations) > 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "operations",
    [pair for pair in combinations_with_replacement(OPERATIONS, 2) if not _slow(pair)],
    ids=_name,
)
async def test_pair_with_more_interruptions(world: World, operations: tuple[Act, ...]) -> None:
    assert await explore(world, operations, interruptions=INTERRUPTIONS + 1) > 2


@pytest.mark.parametrize("operations", TRIPLES, ids=_name)
async def test_triple(world: World, operations: tuple[Act, ...]) -> None:
    assert await explore(world, operations) > 6


#: With a celebrity's way back, and what is quick of that.
OTHERS = [
    *(publish_by_followee, publish_to_both, rebuild, read, follow_again, refollow, unfollow),
    *(delete, expire, start_log, work),
]
QUICK = {publish_by_followee, rebuild, read, refollow, expire}


@pytest.mark.parametrize(
    ("flipping", "other"),
    [
        pytest.param(
            flipping,
            other,
            marks=[] if flipping is push or other in QUICK else [pytest.mark.slow],
            id=_name((flipping, other)),
        )
        for flipping in (push, publish_and_push)
        for other in OTHERS
    ]
    + [
        pytest.param(
            push_and_pull, other, marks=[pytest.mark.slow], id=_name((push_and_pull, other))
        )
        for other in OTHERS
    ],
)
async def test_celebrity_no_more(world: World, flipping: Act, other: Act) -> None:
    assert await explore(world, (flipping, other), prepare=pull) > 2


@pytest.mark.parametrize(
    "flipping",
    [push, publish_and_push, pytest.param(push_and_pull, marks=pytest.mark.slow)],
    ids=lambda act: act.__name__,
)
@pytest.mark.parametrize(
    "other", [publish_by_followee, rebuild, read, refollow], ids=lambda act: act.__name__
)
async def test_celebrity_no_more_and_all_at_once(wide: World, flipping: Act, other: Act) -> None:
    assert await explore(wide, (flipping, other), prepare=pull) > 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operations", LONG_TRIPLES, ids=_name)
async def test_long_triple(world: World, operations: tuple[Act, ...]) -> None:
    assert await explore(world, operations) > 6


async def test_an_older_edge_does_not_flip_a_newer_one(world: World) -> None:
    """A follow is overtaken, anywhere, by the end of its edge and a new one; goes on anywhere."""
    operations = [lambda: follow(world), lambda: follow_and_all_that(world)]
    for waits in range(20):
        for goes_on in range(30):
            await world.reset(warm=True)
            choices = [0] * waits + [1] * goes_on + [0] * 20
            made, _ = await run(world.store, operations, choices)
            await check(
                world,
                f"waits after {waits}, goes on after {goes_on} more: {order(made)}",
            )
            if len(made) <= waits + goes_on:
                break
        if waits and len(made[waits - 1].ready) == 1:  # it had ended: there was no choice left
            return
    raise AssertionError("never ran to its end")


@pytest.mark.parametrize("survivor", [publish_by_followee, unfollow, read, follow, work])
@pytest.mark.parametrize(
    "victim",
    [
        *(publish_by_followee, publish_to_both, follow, refollow, rebuild, read, delete, start_log),
        *(work, pull, pull_and_push),
    ],
)
async def test_process_dies_between_any_two_calls(world: World, victim: Act, survivor: Act) -> None:
    """A process that dies leaves the feed right: slower at the most."""
    for warm in (True, False):
        for calls in range(40):
            await world.reset(warm=warm)
            _, results = await run(
                world.store,
                [lambda: victim(world), lambda: survivor(world)],
                [0] * calls,
                crash=(0, calls),
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            what = f"{victim.__name__} dies after {calls}, then {survivor.__name__}"
            await world.at_rest()
            await world.truth.check_edges(PEOPLE)
            expected = await world.truth.feed("bob")
            for _ in range(2):
                page = await world.engine.feeds.page("bob", Cursor(), 10)
                assert [one for one, _ in page.items] == expected, what
            if len(results) == 2:  # it was not killed: it has no more calls
                break
        else:
            raise AssertionError("never ran to its end")


async def test_publish_that_dies_is_completed_by_its_retry(world: World) -> None:
    """The retry of a publish with the same external id goes on with what the dead process began."""
    for calls in range(1, 10):
        await world.reset(warm=True)
        _, results = await run(
            world.store, [lambda: publish_by_followee(world)], [], crash=(0, calls)
        )
        await publish_by_followee(world)
        await check(world, f"publish dies after {calls}")
        if results:
            return
    raise AssertionError("never ran to its end")
