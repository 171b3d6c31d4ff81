"""Events a second that one server process sends to 1,000 subscribers.

1,000 users (200 in a quick run), each with a stream of its own (`benchmarks.load.subscribers`),
follow one author who publishes 20 activities (10), one after the other: each is an event for every
stream. An event counts when its message has been read. S = 16, workers and limits as by default.

- *Events a second*: from before the first PublishActivity is called until the last event was read.
  The author waits for each answer, and while four activities have not reached all streams. A stream
  that falls behind gets several events in one message; the number of events a message is a figure
  too.
- *One activity at a time*: an activity is published when the activity before has reached all
  streams.
- *Against it*: `benchmarks.servers.bare`, which writes a message for each event to as many streams,
  held by the same program, as fast as gRPC takes them; or, one activity at a time, when the
  messages of the activity before have been read. The messages are those that the service sends with
  one event, made in advance. No activity is published: one call says which ids to write.
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

from benchmarks.harness.figures import Figure
from benchmarks.harness.helper import Helper, open_helper
from benchmarks.harness.processes import CpuMeter, server_process
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.load import population, subscribers
from benchmarks.servers.bare import SET_MESSAGE, WRITE
from feedsvc.cli.load_test.clock import clock

AUTHOR = "author"
#: Most activities of the author on their way to some streams when another is published.
ON_THE_WAY = 4
AGAINST = "a bare gRPC server that writes the same messages"

Send = Callable[[Sequence[int]], Awaitable[float]]
"""Function that sends the events of activities, and returns when the last event was read."""


class Side:
    """A server that sends events, and its subscribers."""

    def __init__(self, pid: int, streams: Helper, count: int, activities: int) -> None:
        """``count`` streams get ``activities`` activities a turn."""
        self._pid = pid
        self._streams = streams
        self._count = count
        self._activities = activities
        self.events_a_message: list[float] = []
        """Events a message, by turn."""
        self.cpu: list[float] = []
        """Microseconds of the server's processors an event, by turn."""

    async def turn(self, send: Send) -> float:
        """Return the events a second."""
        messages, events = await self._streams.ask("count")
        cpu, begun = CpuMeter({"server": self._pid}), clock()
        ended = await send(range(self._activities))
        used = cpu.used()
        messages_after, events_after = await self._streams.ask("count")
        sent = events_after - events
        if sent != self._activities * self._count:
            raise RuntimeError(f"{sent:,} events instead of {self._activities * self._count:,}")
        self.events_a_message.append(sent / (messages_after - messages))
        self.cpu += [seconds / sent * 1e6 for seconds in used.values()]
        rate: float = sent / (ended - begun)
        return rate

    async def _all_have(self, activity_id: str) -> float:
        """Return when an activity had reached all streams."""
        _, last = await self._streams.ask("wait", activity_id)
        return float(last)


class Ours(Side):
    """The service, and an author whom all users follow."""

    client: FeedClient

    async def send_together(self, numbers: Sequence[int]) -> float:
        """Publish while up to ON_THE_WAY activities have not reached all streams."""
        return await self._publish(numbers, ON_THE_WAY)

    async def send_singly(self, numbers: Sequence[int]) -> float:
        """Publish each activity when the activity before has reached all streams."""
        return await self._publish(numbers, 1)

    async def _publish(self, numbers: Sequence[int], on_the_way: int) -> float:
        activity_ids: list[str] = []
        ended = 0.0
        for number in numbers:
            if number >= on_the_way:
                await self._all_have(activity_ids[number - on_the_way])
            request = PublishActivityRequest(activity=population.activity(AUTHOR, number))
            answer = await self.client.activities.PublishActivity(request)
            activity_ids.append(answer.activity.id)
        for activity_id in activity_ids[-on_the_way:]:
            ended = max(ended, await self._all_have(activity_id))
        return ended


class Theirs(Side):
    """The bare server."""

    write: Any
    ids = itertools.count(int(time.time() * 1000) << 21)

    async def send_together(self, numbers: Sequence[int]) -> float:
        """Write all messages with one call."""
        activity_ids = [self._id() for _ in numbers]
        await self.write(json.dumps(activity_ids).encode())
        return await self._all_have(activity_ids[-1])

    async def send_singly(self, numbers: Sequence[int]) -> float:
        """Write each activity's messages when those of the activity before have been read."""
        ended = 0.0
        for _ in numbers:
            activity_id = self._id()
            await self.write(json.dumps([activity_id]).encode())
            ended = await self._all_have(activity_id)
        return ended

    def _id(self) -> str:
        return f"{next(self.ids):019}"


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return the events a second, the events a message, and the CPU an event."""
    users = population.users(scale.subscribers)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stage = await enter(open_stage())
        edges = [(user, AUTHOR) for user in users]
        await population.follow(stage.client, edges, progress)
        message = await _message(stage.client, users[0])
        streams = await enter(open_helper(subscribers.run, stage.target))
        ours = Ours(stage.server_pid, streams, len(users), scale.subscriber_activities)
        ours.client = stage.client
        await open_streams(streams, len(users), progress)

        pid, port = await enter(server_process("benchmarks.servers.bare", stage.url))
        target = f"127.0.0.1:{port}"
        channel = await enter(grpc.aio.insecure_channel(target))
        set_message: Any = channel.unary_unary(SET_MESSAGE)
        await set_message(message)
        streams = await enter(open_helper(subscribers.run, target))
        theirs = Theirs(pid, streams, len(users), scale.subscriber_activities)
        theirs.write = channel.unary_unary(WRITE)
        await open_streams(streams, len(users), progress)

        name = f"events to {len(users):,} subscribers"
        figures = await _figures(name, ours, theirs, scale, progress)
        name = f"{name}, one activity at a time"
        singly = await in_turns(
            {
                "ours": lambda: ours.turn(ours.send_singly),
                "theirs": lambda: theirs.turn(theirs.send_singly),
            },
            scale.rounds,
            progress,
            title=name,
        )
        return [*figures, Figure(name, "events/s", AGAINST, singly["ours"], singly["theirs"])]


async def open_streams(streams: Helper, count: int, progress: Progress) -> None:
    """Have the first ``count`` subscribers open their streams."""
    progress.begin(f"{count:,} streams")
    await streams.ask("open", count)


async def _message(client: FeedClient, user: str) -> bytes:
    """Return a message that the service sends, with one event."""
    async with aclosing(client.subscribe(user)) as messages:
        await anext(messages)
        await population.publish(client, population.activity(AUTHOR))
        return (await anext(messages)).SerializeToString()


async def _figures(
    name: str, ours: Ours, theirs: Theirs, scale: Scale, progress: Progress
) -> list[Figure]:
    rates = await in_turns(
        {
            "ours": lambda: ours.turn(ours.send_together),
            "theirs": lambda: theirs.turn(theirs.send_together),
        },
        scale.rounds,
        progress,
        title=name,
    )
    # The first value of each list is that of the warm-up.
    events_a_message = tuple(ours.events_a_message[1:])
    figures = [
        Figure(name, "events/s", AGAINST, rates["ours"], rates["theirs"]),
        Figure(f"{name}, events a message", "events", "", events_a_message),
    ]
    if ours.cpu:
        cpu = (tuple(ours.cpu[1:]), tuple(theirs.cpu[1:]))
        name = f"{name}, server's CPU an event"
        figures.append(Figure(name, "us", AGAINST, *cpu, "<= 2.5"))
    return figures
