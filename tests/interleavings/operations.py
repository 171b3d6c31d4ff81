"""The operations that run against each other."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress

from feedsvc.core import keys
from feedsvc.core.activities import Audience
from feedsvc.core.edges import NewEdge
from feedsvc.core.fanout import Run
from feedsvc.core.job import Job, Kind, Progress
from feedsvc.core.pages import Cursor, Page
from feedsvc.core.sources import Source
from feedsvc.errors import ActivityNotFound
from tests.interleavings.world import World

WorldOperation = Callable[[World], Awaitable[object]]


async def publish_by_followee(world: World) -> object:
    return await world.publish("a3", "alice", 5_000)


async def publish_by_stranger(world: World) -> object:
    return await world.publish("d3", "dave", 6_000)


async def publish_old(world: World) -> object:
    return await world.publish("a0", "alice", 500)


async def publish_own(world: World) -> object:
    return await world.publish("b1", "bob", 4_000)


async def publish_to_both(world: World) -> object:
    """Publish as a stranger, to an entity that bob follows and an entity that he may follow."""
    return await world.publish("e1", "erin", 7_000, ("alice", "dave"))


async def work(world: World) -> object:
    """Work as a worker that takes every job, also jobs that other workers are doing."""
    for taken in await world.engine.workers.take(everything=True):
        await world.engine.workers.do(taken)
    return None


async def push_again(world: World) -> object:
    """Do a job again that was done already."""
    job = Job(Kind.DELIVER, world.activity_ids["a1"], "alice")
    source = Source("alice", [0], "")
    run = Run(job, Progress(), lambda: nullcontext(world.store), lambda: 1)
    return await world.engine.fanout.work(run, [source])


async def pull(world: World) -> object:
    """Make alice a celebrity: flip her followers to PULL."""
    await world.store.script("flip_begin", 0, "alice", "pull")
    return await work(world)


async def pull_and_push(world: World) -> object:
    """Make alice a celebrity, and then none again."""
    await pull(world)
    await world.store.script("flip_begin", 0, "alice", "push")
    return await work(world)


async def push(world: World) -> object:
    """Flip alice, who was a celebrity, to PUSH."""
    await world.store.script("flip_begin", 0, "alice", "push")
    return await work(world)


async def publish_and_push(world: World) -> object:
    """Publish as a celebrity that is none afterwards."""
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


async def replace_new_edge(world: World) -> object:
    """End the edge to dave, read, and make the edge anew; dave publishes in between."""
    await unfollow_new(world)
    await read(world)
    await publish_by_stranger(world)
    return await follow(world)


async def delete(world: World) -> object:
    with suppress(ActivityNotFound):  # another operation was first
        await world.engine.activities.delete(world.activity_ids["a1"], Audience("alice"), b"", "")
    return None


async def expire(world: World) -> object:
    return await world.store.call("DEL", keys.feed(world.store.tags[0], "bob"))


async def start_log(world: World) -> object:
    return await world.engine.start_log("bob")
