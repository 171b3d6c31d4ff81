"""A job: work of delivery that is stored beside the activity that it delivers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Self

from feedsvc.core.sources import Source
from feedsvc.core.store import Arg

#: In a job's text, before an actor whose own followers are not addressed; no entity's name begins
#: with this character.
_NOT_ADDRESSED = "\1"
#: In a job's text, before the external id of the activity, which comes last.
_EXTERNAL = "\2"

#: Where the work on a shard begins.
BEGINNING = "-inf"
#: The position of a shard whose work has ended.
ENDED = ""

State = Literal["delivered", "queued", "pulled", "failed"]
"""State of a delivery: ended; left to workers; ended except for followers who pull; set aside."""


class Kind(Enum):
    """What a job does; the letter that stands for it in the store."""

    DELIVER = "+"
    RETRACT = "-"
    FLIP = "c"


@dataclass(frozen=True, slots=True)
class Job:
    """Work of delivery for the followers of some entities."""

    kind: Kind
    subject: int
    """The id of the activity, or the epoch of the flip."""
    actor: str
    """The entity whose followers the job addresses; empty if it addresses only those of ``to``."""
    to: tuple[str, ...] = ()
    publisher: str = ""
    """The actor of the activity, if its own followers are not addressed."""
    external_id: str = ""
    """The external id of a deleted activity, which the logs of outboxes repeat."""

    @property
    def author(self) -> str:
        """The entity on whose behalf the job is done: authors take turns."""
        return self.actor or self.publisher

    @property
    def name(self) -> str:
        """The name of the job's record: see ``lua/lib/job_text.lua``."""
        if self.kind is Kind.FLIP:
            return f"{self.kind.value}{self.actor}"
        return f"{self.kind.value}{self.subject:019}"

    @property
    def description(self) -> str:
        """The job for an operator: what the job does, the activity and the author."""
        match self.kind:
            case Kind.DELIVER:
                return f"delivery of activity {self.subject} of {self.author}"
            case Kind.RETRACT:
                return f"retraction of activity {self.subject} of {self.author}"
            case Kind.FLIP:
                return f"flip {self.subject} of the edges to {self.author}"

    def encode(self) -> str:
        """Return the job as text, as the store keeps it."""
        actor = self.actor or (f"{_NOT_ADDRESSED}{self.publisher}" if self.publisher else "")
        external_id = (_EXTERNAL + self.external_id,) if self.external_id else ()
        head = f"{self.kind.value}{self.subject:019}"
        return "\0".join((head, actor, *self.to, *external_id))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """Return the job that a text of the store stands for."""
        head, actor, *to = text.decode().split("\0")
        publisher = actor.removeprefix(_NOT_ADDRESSED) if actor.startswith(_NOT_ADDRESSED) else ""
        external_id = ""
        if to and to[-1].startswith(_EXTERNAL):
            external_id = to.pop().removeprefix(_EXTERNAL)
        return cls(
            Kind(head[0]),
            int(head[1:]),
            "" if publisher else actor,
            tuple(to),
            publisher,
            external_id,
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a delivery has come, as its publisher sees it."""

    feeds: int = 0
    """Number of warm feeds of followers that the activity was put into."""
    cold: int = 0
    """Number of followers whose feed is not materialised."""
    audience: int = 0
    """Number of followers that the delivery is for."""
    state: State = "delivered"
    held: bool = True
    """True if an outbox has the activity."""
    counted: bool = True
    """True if the numbers are known."""


@dataclass(slots=True)
class Progress:
    """How far the work on a job has come."""

    positions: dict[str, dict[int, str]] = field(default_factory=dict)
    """By way and source, then by shard, the resume position; ``ENDED`` where the work has ended."""
    feeds: int = 0
    cold: int = 0
    seen: int = 0
    """Number of followers that the work has passed."""
    announced: int = 0
    """Number of live entities that this process has looked at for the job."""
    audience: int | None = None
    """Number of followers that the job is for; None: not counted yet."""
    held: bool = True
    """True if an outbox has the activity."""

    @classmethod
    def decode(
        cls, positions: bytes, feeds: bytes, cold: bytes, seen: bytes, audience: bytes
    ) -> Self:
        """Return the progress that the fields of a job's record stand for."""
        by_way = {
            way: {int(shard): position for shard, position in shards.items()}
            for way, shards in json.loads(positions or b"{}").items()
        }
        return cls(
            by_way,
            int(feeds),
            int(cold),
            int(seen),
            audience=int(audience) if audience else None,
        )

    def of(self, source: Source) -> dict[int, str]:
        """Return the positions in the shards of a source; they may be changed."""
        # Pushes and announcements have separate positions: after a flip, the position of the pushes
        # says nothing about the announcements. "tell" is the stored name for announcements.
        way = "tell" if source.pulled else "push"
        return self.positions.setdefault(f"{way} {source.entity}", {})

    def note_pushed(
        self,
        source: Source,
        shards: Sequence[int],
        answers: Sequence[tuple[bytes, int, int, int]],
    ) -> None:
        """Note how far the push has come in some shards, from the answers of the script."""
        positions = self.of(source)
        for shard, (position, feeds, cold, seen) in zip(shards, answers, strict=True):
            positions[shard] = position.decode()
            self.feeds += feeds
            self.cold += cold
            self.seen += seen

    def fields(self) -> tuple[Arg, ...]:
        """Return the progress as scripts take it: the positions, then the numbers."""
        positions = json.dumps(self.positions, separators=(",", ":")) if self.positions else ""
        return positions, *self.numbers()

    def numbers(self) -> tuple[Arg, ...]:
        """Return the numbers as scripts take them."""
        audience = "" if self.audience is None else self.audience
        return self.feeds, self.cold, self.seen, audience

    def delivery(self, state: State) -> Delivery:
        """Return the delivery as its publisher sees it."""
        audience = self.seen if self.audience is None else self.audience
        return Delivery(self.feeds, self.cold, audience, state, self.held)
