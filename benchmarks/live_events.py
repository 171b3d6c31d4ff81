"""Events a second that one server process sends to 1,000 subscribers.

1,000 users (200 in a quick run), each with a stream of its own (`live_subscribers.py`), follow one
author who publishes 20 activities (10), one after the other: each is an event for every stream. An
event counts when its message has been read. S = 16, workers and limits as by default.

- *Events a second*: from before the first PublishActivity is called until the last event was read.
  The author waits for the answers, and so long that at most four activities have not reached all. A
  stream that falls behind gets several events in one message; how many a message had is told too.
- *One activity at a time*: each is published when the one before has reached all.
- *Against it*: `live_bare.py`, which writes a message for each event to as many streams of the same
  process of subscribers, as fast as gRPC takes them; or, one at a time, those of one activity when
  those of the one before have been read. The messages are those that ours sends with one event; put
  together before. Nobody publishes: one call says what is to be written.
- *Server's CPU an event*: of all threads of the server's process, over the same time.
"""

import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest

from benchmarks import population
from benchmarks.figures import Figure
from benchmarks.live_bare import SET_MESSAGE, WRITE
from benchmarks.live_helper import Helper, helper
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import cpu_seconds, process, stage
from benchmarks.turns import in_turns

AUTHOR = "author"
#: Activities of the author that may not have reached all when another is published.
ON_THE_WAY = 4
AGAINST = "a bare gRPC server that writes the same messages"

Send = Callable[[Sequence[int]], Awaitable[float]]
"""Sends the events of some activities; when the last one was read."""


class Side:
    """A server that sends events, and its subscribers."""

    def __init__(self, pid: int, subscribers: Helper, count: int, posts: int) -> None:
        self._pid = pid
        self._subscribers = subscribers
        self._count = count
        self._posts = posts
        self.messages: list[float] = []
        """Events a message, by turn."""
        self.cpu: list[float] = []
        """Microseconds of the server's processors an event, by turn."""

    async def turn(self, send: Send) -> float:
        """Events a second."""
        messages, events = await self._subscribers.ask("count")
        cpu, begun = cpu_seconds(self._pid), time.monotonic()
        ended = await send(range(self._posts))
        after = cpu_seconds(self._pid)
        messages_after, events_after = await self._subscribers.ask("count")
        sent = events_after - events
        if sent != self._posts * self._count:
            raise RuntimeError(f"{sent:,} events instead of {self._posts * self._count:,}")
        self.messages.append(sent / (messages_after - messages))
        if cpu is not None and after is not None:
            self.cpu.append((after - cpu) / sent * 1e6)
        rate: float = sent / (ended - begun)
        return rate

    async def _all_have(self, activity: str) -> float:
        """When an activity had reached all."""
        _, last = await self._subscribers.ask("wait", activity)
        return float(last)


class Ours(Side):
    """The service, and an author whom all follow."""

    client: FeedClient

    async def many(self, numbers: Sequence[int]) -> float:
        return await self._publish(numbers, ON_THE_WAY)

    async def one(self, numbers: Sequence[int]) -> float:
        return await self._publish(numbers, 1)

    async def _publish(self, numbers: Sequence[int], on_the_way: int) -> float:
        sent: list[str] = []
        ended = 0.0
        for number in numbers:
            if number >= on_the_way:
                await self._all_have(sent[number - on_the_way])
            request = PublishActivityRequest(activity=population.activity(AUTHOR, number))
            answer = await self.client.activities.PublishActivity(request)
            sent.append(answer.activity.id)
        for activity in sent[-on_the_way:]:
            ended = max(ended, await self._all_have(activity))
        return ended


class Theirs(Side):
    """The bare server."""

    write: Any
    ids = itertools.count(int(time.time() * 1000) << 21)

    async def many(self, numbers: Sequence[int]) -> float:
        activities = [self._id() for _ in numbers]
        await self.write(json.dumps(activities).encode())
        return await self._all_have(activities[-1])

    async def one(self, numbers: Sequence[int]) -> float:
        ended = 0.0
        for _ in numbers:
            activity = self._id()
            await self.write(json.dumps([activity]).encode())
            ended = await self._all_have(activity)
        return ended

    def _id(self) -> str:
        return f"{next(self.ids):019}"


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Events a second, in messages of how many, and at which cost."""
    users = population.users(scale.subscribers)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        on = await enter(stage())
        await population.follow(on.client, [(user, AUTHOR) for user in users], report)
        message = await _message(on.client, users[0])
        subscribers = await enter(helper("benchmarks.live_subscribers", on.target))
        ours = Ours(on.server_pid, subscribers, len(users), scale.subscribers_posts)
        ours.client = on.client
        await opened(subscribers, len(users), report)

        pid, port = await enter(process("benchmarks.live_bare", on.url))
        target = f"127.0.0.1:{port}"
        channel = await enter(grpc.aio.insecure_channel(target))
        set_message: Any = channel.unary_unary(SET_MESSAGE)
        await set_message(message)
        subscribers = await enter(helper("benchmarks.live_subscribers", target))
        theirs = Theirs(pid, subscribers, len(users), scale.subscribers_posts)
        theirs.write = channel.unary_unary(WRITE)
        await opened(subscribers, len(users), report)

        name = f"events to {len(users):,} subscribers"
        figures = await _figures(name, ours, theirs, scale, report)
        alone = await in_turns(
            {"ours": lambda: ours.turn(ours.one), "theirs": lambda: theirs.turn(theirs.one)},
            scale.rounds,
            report,
            what=f"{name}, one activity at a time",
        )
        name = f"{name}, one activity at a time"
        return [*figures, Figure(name, "events/s", AGAINST, alone["ours"], alone["theirs"])]


async def opened(subscribers: Helper, count: int, report: Progress) -> None:
    """Has the first so many subscribers open their streams."""
    report.phase(f"{count:,} streams", 0)
    await subscribers.ask("open", count)


async def _message(client: FeedClient, user: str) -> bytes:
    """One of those that ours sends, with one event."""
    async with aclosing(client.subscribe(user)) as messages:
        await anext(messages)
        await population.publish(client, population.activity(AUTHOR))
        return (await anext(messages)).SerializeToString()


async def _figures(
    name: str, ours: Ours, theirs: Theirs, scale: Scale, report: Progress
) -> list[Figure]:
    rates = await in_turns(
        {"ours": lambda: ours.turn(ours.many), "theirs": lambda: theirs.turn(theirs.many)},
        scale.rounds,
        report,
        what=name,
    )
    # The first of each is the turn that warms up.
    figures = [
        Figure(name, "events/s", AGAINST, rates["ours"], rates["theirs"]),
        Figure(f"{name}, events a message", "events", "", tuple(ours.messages[1:])),
    ]
    if ours.cpu:
        cpu = (tuple(ours.cpu[1:]), tuple(theirs.cpu[1:]))
        name = f"{name}, server's CPU an event"
        figures.append(Figure(name, "us", AGAINST, *cpu, "<= 2.5"))
    return figures
