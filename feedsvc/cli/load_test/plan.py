"""The plan of a run: all that its user can choose, and the orders that each process gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of calls that a run makes."""

    READS = "reads"
    """GetFeed: the newest page."""
    DEEPER = "deeper"
    """GetFeed: the page below the page that was the newest before the run."""
    PUBLISHES = "publishes"
    """PublishActivity, with a request id."""


#: Name of the measurement beside the calls: the time until activities come through streams.
EVENTS = "events"


class BadPlan(ValueError):
    """A run cannot be carried out as planned. The message says why and names the options."""


def mix_of(text: str) -> dict[Kind, float]:
    """Parse weights by kind, such as ``reads=80,publishes=20``. Raise BadPlan if they are wrong."""
    weights: dict[Kind, float] = {}
    for part in text.split(","):
        name, _, weight = (word.strip() for word in part.partition("="))
        try:
            kind, number = Kind(name), float(weight)
        except ValueError:
            raise BadPlan(
                f"{part.strip()!r} is no kind and weight such as reads=80; "
                f"kinds are {', '.join(Kind)}"
            ) from None
        if kind in weights:
            raise BadPlan(f"{kind} has two weights in the mix: give it one")
        if not 0 <= number < float("inf"):
            raise BadPlan(f"the weight of {kind} must be 0 or more, not {weight}")
        weights[kind] = number
    if not any(weights.values()):
        raise BadPlan("all weights of the mix are 0: give at least one kind more than 0")
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run. Rates and counts are those of the whole run, not of one of its processes."""

    server: str
    """``host:port``"""
    prefix: str
    """First part of the name of every entity of the run."""
    seed: int

    users: int
    follows: int
    """Number of others that each user follows; less than ``users``."""
    activities: int
    """Number of activities that each user publishes before the run."""
    skew: float
    """Exponent s of the weight 1/n^s with which the n-th user is picked. 0: all are alike."""

    mix: Mapping[Kind, float]
    """Weight of each kind of call. A kind that is missing has the weight 0."""
    page_size: int
    content_bytes: int
    subscriptions: int
    """Number of streams, which are open for the whole run."""

    rate: float | None
    """Calls a second of an open loop. None: a closed loop."""
    poisson: bool
    """True if the calls of an open loop are due at random; False if they are evenly spaced."""
    concurrency: int
    """Number of calls in flight: always in a closed loop, at most in an open one."""
    processes: int

    warm_up: float
    """Seconds of calls that are not counted."""
    duration: float
    """Seconds of calls that are counted."""
    timeout: float
    """Seconds until a call fails."""

    def __post_init__(self) -> None:
        """Raise BadPlan if the values contradict each other."""
        if self.follows >= self.users:
            raise BadPlan("--follows must be less than --users: no user follows itself")
        if self.processes > self.concurrency:
            raise BadPlan(
                f"--processes ({self.processes}) must be at most the calls in flight "
                f"({self.concurrency}; --concurrency or --max-in-flight)"
            )
        items = (self.follows + 1) * self.activities
        if self.mix.get(Kind.DEEPER) and items <= self.page_size:
            raise BadPlan(
                f"deeper reads need more than one page: a feed has {items} activities "
                f"(--follows, --activities), a page holds {self.page_size} (--page-size)"
            )

    def concurrency_of(self, process: int) -> int:
        """Return a process's part of the calls in flight."""
        return len(range(process, self.concurrency, self.processes))


@dataclass(frozen=True, slots=True)
class Orders:
    """The part of a plan that one process carries out."""

    plan: Plan
    process: int
    """Number of the process, from 0."""
    streams: Mapping[int, int]
    """User whose feed each stream follows, by the number of the stream."""
    page_tokens: Mapping[int, str]
    """Page token of each user's second page, for `Kind.DEEPER`."""
