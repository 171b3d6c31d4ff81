"""Live feeds: how fast an event is there, how many at a time, and what an idle stream costs.

- `live_latency.py`: from a publish to its event, quiet and beside a load.
- `live_events.py`: events a second to 1,000 subscribers.
- `live_idle.py`: memory of a subscriber to whom nothing happens.
- `live_celebrity.py`: one activity of a celebrity whom all 10,000 subscribers follow.

The streams of the last three are those of `live_subscribers.py`, a process that speaks no more
HTTP/2 than it needs, over 32 connections: a gRPC client takes a multiple of the time that a server
takes for a message, and two cores would then measure the client. What they are set against is
`live_bare.py`: a server of the same gRPC library that does nothing but write to streams.
"""

from benchmarks import live_celebrity, live_events, live_idle, live_latency
from benchmarks.figures import Figure
from benchmarks.progress import Progress
from benchmarks.scale import Scale


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Figures of latency, of throughput, of memory, and of a celebrity."""
    return [
        *await live_latency.measure(scale, report),
        *await live_events.measure(scale, report),
        *await live_idle.measure(scale, report),
        *await live_celebrity.measure(scale, report),
    ]
