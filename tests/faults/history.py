"""What happened in a world: who asked for what and when, what was answered, and what was broken.

All times are seconds of one monotonic clock, the harness process's. A call that was never answered
has no end: it may take effect at any time after it began, or never.
"""

import math
from dataclasses import dataclass, field

NEVER = math.inf


@dataclass(slots=True)
class Publish:
    """A publish with all its repetitions, which have one request id."""

    number: int
    """Marks the activity wherever it is read: the id of its object."""
    actor: str
    to: tuple[str, ...]
    followers: bool
    """Whether the actor's own outbox gets it."""
    fresh: bool
    """Whether it was sent without a publish_time."""
    began: float
    ended: float = NEVER
    id: int = 0
    """As it was answered; 0: never."""
    settled: float = NEVER
    """When an answer first said that it is in every feed."""
    state: str = ""
    """What that answer said: DELIVERED or PULLED."""
    refused: bool = False
    """Answered with an error that says that nothing was published."""
    deleting: float = NEVER
    """When its deletion began."""
    deleted: float = NEVER
    """When that was acknowledged."""

    @property
    def routes(self) -> tuple[str, ...]:
        """The entities whose outboxes get it."""
        return ((self.actor,) if self.followers else ()) + self.to


@dataclass(slots=True)
class Change:
    """A follow or an unfollow with all its repetitions."""

    follower: str
    followee: str
    on: bool
    began: float
    ended: float = NEVER
    new: bool = False
    """Answered that it made an edge that was not there."""


@dataclass(frozen=True, slots=True)
class Item:
    """An activity in a listing."""

    id: int
    number: int
    via: tuple[str, ...] = ()


@dataclass(slots=True)
class Walk:
    """A walk through a feed, newest first."""

    user: str
    began: float
    ended: float
    items: list[Item] = field(default_factory=list)
    complete: bool = True
    """Whether it came to the end of the feed."""
    how: str = "during the run"


@dataclass(frozen=True, slots=True)
class State:
    """What GetDelivery said of a publish."""

    number: int
    began: float
    ended: float
    settled: bool
    name: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What VerifyFeed says of an activity in a stored feed."""

    user: str
    kind: str
    id: int
    number: int
    """0: of no activity that is listed."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The store came back, or was replaced, without the end of what it had acknowledged."""

    kept: float
    """What was acknowledged until then is there."""
    restored: float
    """What began after this is there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to in the end for a caller who has gRPC's own retries."""

    about: str
    """The method and the server."""
    began: float
    ended: float
    code: str
    details: str = ""
    killed: bool = False
    """Whether its server was killed meanwhile, and not only asked to stop."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the harness broke."""

    kind: str
    at: float
    text: str


@dataclass(slots=True)
class Rest:
    """What is there when all calls and faults have ended and the service has come to rest."""

    outboxes: dict[str, list[Item]] = field(default_factory=dict)
    following: dict[str, set[str]] = field(default_factory=dict)
    feeds: list[Walk] = field(default_factory=list)
    """Each user's, several times: as it was left, and cold."""
    differences: list[Difference] = field(default_factory=list)
    repeated: dict[int, int] = field(default_factory=dict)
    """Ids that publishes were answered with when they were sent once more, by number."""


@dataclass(slots=True)
class History:
    """Everything about one world."""

    lossy: bool = False
    """Whether losses were to be expected."""
    publishes: dict[int, Publish] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What was wrong at once: an answer that nothing excuses, a process that ended by itself."""
    calls: int = 0
    unknown: int = 0
    rest: Rest = field(default_factory=Rest)
    rested: bool = True
    """Whether it came to rest; else there is no ``rest``."""

    @property
    def acknowledged(self) -> int:
        return sum(one.ended < NEVER and not one.refused for one in self.publishes.values())
