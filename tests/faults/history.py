"""The history of a run of calls, with the final state of the service."""

from dataclasses import dataclass, field

from tests.harness.history import History, Item, Walk


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """An answer of GetDelivery."""

    number: int
    """The publish that the call asked for."""
    began: float
    ended: float
    is_delivered: bool
    state: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a call for a caller who has gRPC's own retries."""

    call: str
    """The method and the server."""
    began: float
    ended: float
    code: str
    details: str = ""
    server_was_killed: bool = False
    """True if the server was killed during the call, and not only asked to stop."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference that VerifyFeed reports of a stored feed."""

    user: str
    kind: str
    id: int
    number: int
    """The publish; 0 if no outbox lists the activity."""


@dataclass(slots=True)
class FinalState:
    """The state of the service when all calls and faults have ended and it is quiet."""

    outboxes: dict[str, list[Item]] = field(default_factory=dict)
    following: dict[str, set[str]] = field(default_factory=dict)
    feeds: list[Walk] = field(default_factory=list)
    """Several walks of each user's feed: as the run left it, cold, and warm again."""
    differences: list[Difference] = field(default_factory=list)
    repeated: dict[int, int] = field(default_factory=dict)
    """The ids that answer publishes which are sent once more, by number."""


@dataclass
class CallHistory(History):
    """All that happened in one run of calls."""

    delivery_answers: list[DeliveryAnswer] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    final: FinalState = field(default_factory=FinalState)
    """Empty if the service did not become quiet."""

    @property
    def all_walks(self) -> list[Walk]:
        """The walks during the run and those of the final state."""
        return [*self.walks, *self.final.feeds]
