"""How much is measured, and how often."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes and rounds. A round is one turn of each side."""

    rounds: int
    """Of what takes seconds, and varies."""
    few_rounds: int
    """Of what takes minutes: memory, imports, deliveries to a million."""
    shards: tuple[int, ...]
    """The numbers of shards that fan-out and memory are measured with."""
    followers: int
    """Of the one author whose activities are fanned out."""
    feeds: int
    """Full feeds whose memory is measured."""
    graphs: tuple[tuple[int, int], ...]
    """Random graphs whose memory is measured: followers an author, and users."""
    followees: tuple[int, int, int]
    """Of the readers: few, the usual number, many."""
    calls: int
    """Calls a round and side of which latencies are told."""
    cold_calls: int
    """The same, of calls that take tens of milliseconds."""
    rpc_calls: int
    """The same, of calls that are compared with an empty one."""
    import_rows: int | None
    """Lines of each file that is imported; None: all."""
    audiences: tuple[int, ...]
    """Followers of the authors whose deliveries are measured, fewest first."""
    deliveries: int
    """A turn of these, at least; as many activities as that takes."""
    crowd: int
    """Followers of the account beside whose deliveries others want to be served."""
    fair_seconds: float
    """Of a turn of that."""
    higgs_users: int
    """Users of the whole Higgs data whose feeds are compared; 0: it is left out."""
    subscribers: int
    """Streams that are sent as many events as they can be."""
    subscribers_posts: int
    """Activities that each of them is sent in a turn."""
    idle: tuple[int, int]
    """Streams that are sent nothing; so many fans of one celebrity as the second number says."""
    live_seconds: float
    """Of a turn in which publishes are timed beside a celebrity's."""

    neighbours: tuple[int, float]
    """Entities that a reader follows whose pages lie below its warm feed; seconds of a turn."""

    @classmethod
    def full(cls) -> Self:
        """Takes about 30 minutes, and 2 GB of memory."""
        return cls(
            rounds=5,
            few_rounds=3,
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
            fair_seconds=8.0,
            higgs_users=10_000,
            subscribers=1_000,
            subscribers_posts=20,
            idle=(5_000, 10_000),
            live_seconds=6.0,
            neighbours=(10_000, 5.0),
        )

    @classmethod
    def quick(cls) -> Self:
        """Takes about three minutes. Its figures are coarse."""
        return cls(
            rounds=3,
            few_rounds=1,
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
            fair_seconds=3.0,
            higgs_users=0,
            subscribers=200,
            subscribers_posts=10,
            idle=(500, 1_000),
            live_seconds=2.0,
            neighbours=(1_000, 2.0),
        )
