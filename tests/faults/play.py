"""One history: traffic and faults on a stage, then rest, and a look at all that is there."""

import asyncio
import random
import time
from functools import partial

import grpc.aio
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    FeedDifference,
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
    JobKind,
    VerifyFeedRequest,
)
from activityfeed.v1.activity_service_pb2 import GetDeliveryRequest

from tests.faults.faults import Faults
from tests.faults.history import Difference, History, Rest, Walk
from tests.faults.lanes import (
    CALL_SECONDS,
    PATIENCE_SECONDS,
    SETTLED,
    Calls,
    Lane,
    World,
    everything,
    following,
    named,
    outbox,
    walked,
)
from tests.faults.plain import Plain
from tests.faults.stage import Stage
from tests.harness.processes import ProcessDied

USERS = 60
STARS = 4
TOPICS = 4
LANES = 10
#: How often it looks again if what it looks at has changed meanwhile.
LOOKS = 5
#: Publishes that are asked about at rest, and that each lane sends once more.
ASKED = 30
REPEATED = 2


async def play(stage: Stage, name: str, seconds: float, chance: random.Random) -> History:
    """Plays one history on a stage that has come to rest, and brings it to rest again."""
    history = History(lossy=stage.mode != "durable")
    world = World.named(name, USERS, STARS, TOPICS)
    calls = Calls(lambda: stage.serving, history, random.Random(chance.random()))
    lanes = [
        Lane(world, world.users[n::LANES], calls, history, random.Random(chance.random()))
        for n in range(LANES)
    ]
    calls.deadline = time.monotonic() + PATIENCE_SECONDS
    await asyncio.gather(*(lane.begin() for lane in lanes))
    faults = Faults(stage, history, random.Random(chance.random()))
    breaking = asyncio.create_task(faults.run())
    traffic = asyncio.gather(*(lane.run() for lane in lanes))
    plain = Plain(stage.servers, f"{name}-plain", history)
    plainly = asyncio.create_task(plain.run())
    await asyncio.wait([breaking, traffic], timeout=seconds)
    breaking.cancel()
    await asyncio.wait([breaking])
    if not breaking.cancelled():
        breaking.result()
    calls.stopping = True
    try:
        await faults.heal()
    finally:
        plain.stop()
        await plainly
    calls.deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        await traffic
        await at_rest(stage, history, calls)
        history.rest = await _look(stage, history, world, calls)
        await _ask(history, calls, chance)
        for lane in lanes:
            history.rest.repeated |= await lane.repeat(REPEATED)
    except (TimeoutError, grpc.aio.AioRpcError) as error:
        history.complaints.append(str(error))
        history.rested = False
    for process in stage.processes:
        try:
            process.check()
        except ProcessDied as error:
            history.complaints.append(str(error))
    history.complaints += stage.alarms()
    return history


async def at_rest(stage: Stage, history: History, calls: Calls) -> None:
    """Waits until every server says that nothing is left to be delivered."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for client in stage.serving:
        while True:
            status = await calls.answered(partial(_status, client))
            if status.open_count + status.inline_count == 0:
                break
            if time.monotonic() > deadline:
                oldest = JobKind.Name(status.oldest.kind).removeprefix("JOB_KIND_")
                raise TimeoutError(
                    f"it does not come to rest: {status.waiting_count} jobs wait, "
                    f"{status.running_count} run, {status.inline_count} are inline; "
                    f"the oldest is {oldest} of {status.oldest.actor} "
                    f"{status.oldest.activity_id}, tried {status.oldest.attempt_count} times"
                )
            await asyncio.sleep(0.02)
        if status.dead_letter_count:
            history.complaints.append(f"{status.dead_letter_count} deliveries were set aside")


async def _status(client: FeedClient, _: FeedClient) -> GetFanoutStatusResponse:
    """What this very server says."""
    return await client.admin.GetFanoutStatus(GetFanoutStatusRequest(), timeout=CALL_SECONDS)


async def _look(stage: Stage, history: History, world: World, calls: Calls) -> Rest:
    """Reads everything; again, if a call that nobody waits for took effect only now."""
    rest = await _truth(world, calls)
    for _ in range(LOOKS):
        rest.feeds = await _walks(world, calls, "as it was left")
        rest.differences = await _differences(rest, world, calls)
        await stage.all_cold(world.users)
        rest.feeds += await _walks(world, calls, "cold")
        rest.differences += await _differences(rest, world, calls)
        rest.feeds += await _walks(world, calls, "warm again")
        again = await _truth(world, calls)
        if (again.outboxes, again.following) == (rest.outboxes, rest.following):
            return rest
        await at_rest(stage, history, calls)
        rest = await _truth(world, calls)
    raise TimeoutError("it does not come to rest: outboxes and edges go on changing")


async def _truth(world: World, calls: Calls) -> Rest:
    outboxes = await everything(outbox(calls, name) for name in world.entities)
    edges = await everything(following(calls, name) for name in world.users)
    return Rest(
        dict(zip(world.entities, outboxes, strict=True)),
        dict(zip(world.users, edges, strict=True)),
    )


async def _walks(world: World, calls: Calls, how: str) -> list[Walk]:
    walks = await everything(walked(calls, user, 100, gives_up=False) for user in world.users)
    for walk in walks:
        walk.how = how
    return walks


async def _differences(rest: Rest, world: World, calls: Calls) -> list[Difference]:
    numbers = {item.id: item.number for items in rest.outboxes.values() for item in items}

    async def one(user: str) -> list[Difference]:
        answer = await calls.answered(
            lambda client: client.admin.VerifyFeed(VerifyFeedRequest(user=user), timeout=10)
        )
        return [
            Difference(
                user,
                FeedDifference.Kind.Name(found.kind).removeprefix("KIND_"),
                int(found.activity_id),
                numbers.get(int(found.activity_id), 0),
            )
            for found in answer.differences
        ]

    return [one for found in await everything(map(one, world.users)) for one in found]


async def _ask(history: History, calls: Calls, chance: random.Random) -> None:
    """At rest every delivery has ended."""
    published = {item.id: item for items in history.rest.outboxes.values() for item in items}
    for one in chance.sample(sorted(published), min(ASKED, len(published))):
        answer = await calls.answered(
            lambda client, one=one: client.activities.GetDelivery(
                GetDeliveryRequest(id=str(one)), timeout=CALL_SECONDS
            )
        )
        if answer.delivery.state not in SETTLED:
            text = f"at rest #{published[one].number} ({one}) is {named(answer.delivery.state)}"
            history.complaints.append(text)
