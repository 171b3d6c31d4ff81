"""Live feeds: latency of an event, events a second, memory of a stream, and a celebrity.

- `latency`: from a publish to its event, quiet and beside a load.
- `events`: events a second to 1,000 subscribers.
- `idle`: memory of a subscriber that gets no events.
- `celebrity`: an activity of a celebrity whom all 10,000 subscribers follow.

The last three open their streams in `benchmarks.load.subscribers`: a process that speaks no more
HTTP/2 than it needs, over 32 connections. A gRPC client takes several times as long for a message
as a server does, so on two cores the figures would be the client's. The alternative is
`benchmarks.servers.bare`: a server of the same gRPC library that does nothing but write to streams.
"""

from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.live import celebrity, events, idle, latency


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of latency, of throughput, of memory, and of a celebrity."""
    return [
        *await latency.measure(scale, progress),
        *await events.measure(scale, progress),
        *await idle.measure(scale, progress),
        *await celebrity.measure(scale, progress),
    ]
