"""The history of a run: the calls and their answers, the edges and publishes, and the faults.

All times are seconds of the harness's monotonic clock. A call that was never answered has no end:
the call may take effect at any time after it began, or never.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

NEVER = math.inf


@dataclass(slots=True)
class Publish:
    """A publish with all its repetitions, which share one request id."""

    number: int
    """The id of the activity's object, by which a reader recognises the activity."""
    actor: str
    to: tuple[str, ...]
    to_followers: bool
    """True if the activity goes to the actor's own outbox."""
    is_untimed: bool
    """True if the request had no publish_time."""
    began: float
    ended: float = NEVER
    id: int = 0
    """The activity's id in the answer; 0 if there was no answer."""
    delivered: float = NEVER
    """When an answer first said that the activity is in every feed."""
    delivery_state: str = ""
    """The state in that answer: DELIVERED or PULLED."""
    is_refused: bool = False
    """True if an error said that nothing was published."""
    delete_began: float = NEVER
    delete_ended: float = NEVER

    @property
    def outboxes(self) -> tuple[str, ...]:
        """The entities whose outboxes get the activity."""
        return ((self.actor,) if self.to_followers else ()) + self.to

    @property
    def is_acknowledged(self) -> bool:
        return self.ended < NEVER and not self.is_refused


@dataclass(slots=True)
class EdgeChange:
    """A follow or an unfollow with all its repetitions."""

    follower: str
    followee: str
    is_follow: bool
    began: float
    ended: float = NEVER
    made_edge: bool = False
    """True if the answer said that the follow made an edge that did not exist."""


@dataclass(frozen=True, slots=True)
class Item:
    """An activity in a listing."""

    id: int
    number: int
    via: tuple[str, ...] = ()


@dataclass(slots=True)
class Walk:
    """A walk through a feed, newest item first."""

    user: str
    began: float
    ended: float
    items: list[Item] = field(default_factory=list)
    is_complete: bool = True
    """True if the walk reached the end of the feed."""
    occasion: str = "during the run"


@dataclass(frozen=True, slots=True)
class Loss:
    """A moment at which the store came back, or was replaced, without its last writes."""

    kept_until: float
    """Writes that were acknowledged before this time are in the store."""
    restored: float
    """Writes that began after this time are in the store."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that the harness caused."""

    kind: str
    time: float
    text: str


@dataclass
class History:
    """All that happened in one run of traffic and faults."""

    is_lossy: bool = False
    """True if the store may lose acknowledged writes."""
    publishes: dict[int, Publish] = field(default_factory=dict)
    """By number."""
    changes: list[EdgeChange] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Errors that no fault excuses: refusals, processes that ended by themselves, alarming logs."""
    calls: int = 0
    failed_calls: int = 0
    """Number of calls that failed so that nobody knows whether they took effect."""
    became_quiet: bool = True
    """True if the service came to rest after the faults."""

    @property
    def acknowledged(self) -> int:
        """The number of publishes that the service acknowledged."""
        return sum(publish.is_acknowledged for publish in self.publishes.values())

    @cached_property
    def edges(self) -> dict[tuple[str, str], list[EdgeChange]]:
        """The changes of each edge (follower, followee), in order. Read them only at the end."""
        changes_by_edge: dict[tuple[str, str], list[EdgeChange]] = defaultdict(list)
        for change in sorted(self.changes, key=lambda change: change.began):
            changes_by_edge[change.follower, change.followee].append(change)
        return dict(changes_by_edge)

    def is_certain(self, began: float, ended: float) -> bool:
        """Return whether a call took effect for sure: it was answered, and no loss can undo it."""
        return ended < NEVER and all(
            ended <= loss.kept_until or began >= loss.restored for loss in self.losses
        )

    def is_kept(self, publish: Publish) -> bool:
        """Return whether the service must still hold a publish, but for its deletion."""
        return not publish.is_refused and self.is_certain(publish.began, publish.ended)


def may_follow(changes: Sequence[EdgeChange], began: float, ended: float) -> bool:
    """Return whether an edge with these changes may have existed at a time between two moments."""
    earlier = [change for change in changes if change.began < ended]
    done = [change for change in earlier if change.ended <= began]
    return any(change.is_follow and change.ended > began for change in earlier) or (
        bool(done) and done[-1].is_follow
    )
