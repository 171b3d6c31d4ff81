"""Sizes and rounds of a run."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes and rounds. A round is one turn of each side."""

    rounds: int
    """Rounds of scenarios that take seconds, and vary."""
    slow_rounds: int
    """Rounds of scenarios that take minutes: memory, imports, deliveries to a million."""
    shards: tuple[int, ...]
    """Numbers of shards with which fan-out and memory are measured."""
    followers: int
    """Followers of the author whose activities are fanned out."""
    feeds: int
    """Full feeds whose memory is measured."""
    graphs: tuple[tuple[int, int], ...]
    """Random graphs whose memory is measured: followers of an author, and users."""
    followees: tuple[int, int, int]
    """Followees of the readers: few, the usual number, very many."""
    calls: int
    """Calls of a side in a round whose latencies are measured."""
    cold_calls: int
    """The same for calls that take tens of milliseconds."""
    rpc_calls: int
    """The same for calls that are compared with an empty RPC."""
    import_rows: int | None
    """Lines of each file that is imported; None: all."""
    audiences: tuple[int, ...]
    """Followers of the authors whose deliveries are measured, in rising order."""
    deliveries: int
    """Least number of deliveries in a turn, which has as many activities as that takes."""
    crowd: int
    """Followers of the author beside whose fan-out other callers are measured."""
    fairness_seconds: float
    """Seconds of a turn beside that fan-out."""
    higgs_users: int
    """Users of the whole Higgs data whose feeds are compared; 0: leave the scenario out."""
    subscribers: int
    """Streams that get as many events as the server can send."""
    subscriber_activities: int
    """Activities that each of them gets in a turn."""
    idle_subscribers: tuple[int, int]
    """Streams that get nothing. The second number is also that of a celebrity's subscribers."""
    live_seconds: float
    """Seconds of a turn in which publishes are timed beside a celebrity's."""
    neighbour_followees: int
    """Followees of a reader whose pages lie below its warm feed."""
    neighbour_seconds: float
    """Seconds of a turn beside a busy neighbour."""

    @classmethod
    def full(cls) -> Self:
        """Return sizes that take about 30 minutes, and 2 GB of memory."""
        return cls(
            rounds=5,
            slow_rounds=3,
            shards=(16, 256),
            followers=10_000,
            feeds=1_000,
            graphs=((20, 10_000), (200, 2_000)),
            followees=(50, 500, 2_000),
            calls=1_000,
            cold_calls=50,
            rpc_calls=10_000,
            import_rows=None,
            audiences=(1_000, 10_000, 100_000, 1_000_000),
            deliveries=200_000,
            crowd=1_000_000,
            fairness_seconds=8.0,
            higgs_users=10_000,
            subscribers=1_000,
            subscriber_activities=20,
            idle_subscribers=(5_000, 10_000),
            live_seconds=6.0,
            neighbour_followees=10_000,
            neighbour_seconds=5.0,
        )

    @classmethod
    def quick(cls) -> Self:
        """Return sizes that take a few minutes, and give coarse figures."""
        return cls(
            rounds=3,
            slow_rounds=1,
            shards=(16, 256),
            followers=1_000,
            feeds=200,
            graphs=((20, 1_000), (200, 250)),
            followees=(50, 500, 2_000),
            calls=100,
            cold_calls=5,
            rpc_calls=2_000,
            import_rows=5_000,
            audiences=(1_000, 10_000),
            deliveries=20_000,
            crowd=50_000,
            fairness_seconds=3.0,
            higgs_users=0,
            subscribers=200,
            subscriber_activities=10,
            idle_subscribers=(500, 1_000),
            live_seconds=2.0,
            neighbour_followees=1_000,
            neighbour_seconds=2.0,
        )
