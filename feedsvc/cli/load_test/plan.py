"""What a run does: everything that its user can choose, and what the processes are told of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A kind of call."""

    READS = "reads"
    """GetFeed: the newest page."""
    DEEPER = "deeper"
    """GetFeed: the page below the one that was the newest before the run."""
    PUBLISHES = "publishes"
    """PublishActivity, with a request id."""


#: What is measured beside the calls: how long activities take to come through the streams.
EVENTS = "events"


class BadPlan(ValueError):
    """The plan cannot be carried out; the message says why, in the words of the command."""


def mix_of(text: str) -> dict[Kind, float]:
    """Weights by kind, such as ``reads=80,publishes=20``. Raises BadPlan."""
    weights: dict[Kind, float] = {}
    for part in text.split(","):
        name, _, weight = (one.strip() for one in part.partition("="))
        try:
            kind, number = Kind(name), float(weight)
        except ValueError:
            raise BadPlan(
                f"{part.strip()!r} is no kind and weight such as reads=80; "
                f"kinds are {', '.join(Kind)}"
            ) from None
        if kind in weights:
            raise BadPlan(f"{kind} is there twice")
        if not 0 <= number < float("inf"):
            raise BadPlan(f"the weight of {kind} must be 0 or more, not {weight}")
        weights[kind] = number
    if not any(weights.values()):
        raise BadPlan("some weight must be more than 0")
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run. All rates and counts are those of the whole run, not of one process of it."""

    server: str
    """``host:port``"""
    prefix: str
    """Begins the name of every entity of the run."""
    seed: int

    users: int
    follows: int
    """How many others each user follows; less than ``users``."""
    activities: int
    """How many each user has published before the run."""
    skew: float
    """The n-th user is picked with the weight n to the power of minus this. 0: all are alike."""

    mix: Mapping[Kind, float]
    """Weights; those that are not there are 0."""
    page_size: int
    content_bytes: int
    subscriptions: int
    """Streams, held open for the whole run."""

    rate: float | None
    """Calls a second, of an open loop. None: a closed loop."""
    poisson: bool
    """Whether arrivals of an open loop are random, or evenly spaced."""
    concurrency: int
    """Calls in flight: of a closed loop always, of an open one at most."""
    processes: int

    warm_up: float
    """Seconds of calls that are not counted."""
    duration: float
    """Seconds of calls that are."""
    timeout: float
    """Seconds that a call may take."""

    def __post_init__(self) -> None:
        """Raises BadPlan."""
        if self.follows >= self.users:
            raise BadPlan("--follows must be less than --users: nobody follows itself")
        if self.processes > self.concurrency:
            raise BadPlan("more --processes than calls in flight")
        items = (self.follows + 1) * self.activities
        if self.mix.get(Kind.DEEPER) and items <= self.page_size:
            raise BadPlan(
                f"deeper reads need more than one page: a feed has {items} activities "
                f"(--follows, --activities), a page holds {self.page_size} (--page-size)"
            )

    def concurrency_of(self, process: int) -> int:
        """A process's part of the calls in flight."""
        return len(range(process, self.concurrency, self.processes))


@dataclass(frozen=True, slots=True)
class Orders:
    """What one process is to do."""

    plan: Plan
    process: int
    """Its number, from 0."""
    streams: Mapping[int, int]
    """The streams that it holds: the number of each, and the user whose feed it is."""
    page_tokens: Mapping[int, str]
    """Where each user's second page begins, for `Kind.DEEPER`."""
