"""The plain model of the service: dictionaries and sorted lists, no Redis, no clocks, no caches."""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby


@dataclass
class Act:
    """An activity, as it was published."""

    id: int
    actor: str
    to: tuple[str, ...]
    followers: bool
    deleted: bool = False

    @property
    def routes(self) -> tuple[str, ...]:
        return ((self.actor,) if self.followers else ()) + self.to


@dataclass
class Outbox:
    """The newest ids up to a cap; the floor is the newest that was let go."""

    cap: int
    ids: list[int] = field(default_factory=list)
    floor: int = 0

    @property
    def lowest_welcome(self) -> int:
        """Below this id nothing new comes in."""
        return self.ids[0] if len(self.ids) == self.cap else self.floor

    def add(self, one: int) -> bool:
        """Whether it is there now."""
        if one in self.ids:
            return True
        if one <= self.floor:
            return False
        insort(self.ids, one)
        if len(self.ids) > self.cap:
            self.floor = self.ids.pop(0)
        return one > self.floor


@dataclass
class Log:
    """What a live user was told since it became live: the step, the kind, and what."""

    events: list[tuple[int, str, str]] = field(default_factory=list)
    told: set[int] = field(default_factory=set)


class Oracle:
    """Everything that was published and followed, and what follows from it."""

    def __init__(self, outbox_cap: int) -> None:
        self._cap = outbox_cap
        self.acts: dict[int, Act] = {}
        self.outboxes: dict[str, Outbox] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.logs: dict[str, Log] = {}
        self.step = 0
        """Counts what is done; the parts of one step may take effect in any order."""

    def outbox(self, entity: str) -> Outbox:
        return self.outboxes.setdefault(entity, Outbox(self._cap))

    def sources(self, user: str) -> set[str]:
        return {user} | {followee for follower, followee in self.edges if follower == user}

    def publish(self, act: Act) -> None:
        """A new activity, which was not refused."""
        assert act.id not in self.acts, "an id was used again"
        self.acts[act.id] = act
        held = [entity for entity in act.routes if self.outbox(entity).add(act.id)]
        for user, log in self.logs.items():
            if self.sources(user).intersection(held) and act.id not in log.told:
                log.told.add(act.id)
                log.events.append((self.step, "added", str(act.id)))

    def delivered_again(self, act: Act) -> None:
        """A repeated publish may tell those who became live after the first, but not twice."""
        for user, log in self.logs.items():
            if self.sources(user).intersection(act.routes) and act.id not in log.told:
                log.told.add(act.id)
                log.events.append((self.step, "maybe added", str(act.id)))

    def delete(self, act: Act) -> None:
        act.deleted = True
        for user, log in self.logs.items():
            if self.sources(user).intersection({act.actor, *act.to}):
                log.events.append((self.step, "removed", str(act.id)))

    def follow(self, follower: str, followee: str) -> bool:
        """Whether the edge is new."""
        if (follower, followee) in self.edges:
            return False
        self.edges[follower, followee] = None
        self._source_changed(follower, "followed", followee)
        return True

    def unfollow(self, follower: str, followee: str) -> bool:
        """Whether there was an edge."""
        if (follower, followee) not in self.edges:
            return False
        del self.edges[follower, followee]
        self._source_changed(follower, "unfollowed", followee)
        return True

    def _source_changed(self, user: str, what: str, entity: str) -> None:
        if user in self.logs:
            self.logs[user].events.append((self.step, what, entity))

    def alive(self, one: int) -> bool:
        """Not deleted, and some outbox still holds it."""
        act = self.acts[one]
        return not act.deleted and any(one in self.outbox(entity).ids for entity in act.routes)

    def listing(self, entity: str, *, own_only: bool = False) -> list[int]:
        """What is in an outbox, newest first."""
        return [
            one
            for one in reversed(self.outbox(entity).ids)
            if not self.acts[one].deleted and (not own_only or self.acts[one].actor == entity)
        ]

    def feed(self, user: str) -> list[int]:
        """The feed by its definition, newest first."""
        found = {one for entity in self.sources(user) for one in self.outbox(entity).ids}
        return sorted((one for one in found if not self.acts[one].deleted), reverse=True)

    def floor(self, user: str) -> int:
        """Where the feed may be incomplete from; 0: nowhere."""
        return max(self.outbox(entity).floor for entity in self.sources(user))

    def via(self, user: str, one: int) -> list[str]:
        sources = self.sources(user)
        return sorted(
            {entity for entity in self.acts[one].routes if entity in sources}, key=str.encode
        )

    def go_live(self, user: str) -> None:
        if user not in self.logs:
            self.logs[user] = Log()

    def check_told(
        self, user: str, events: Sequence[tuple[int, str, str]], told: Sequence[tuple[str, str]]
    ) -> None:
        """What a reader is told now: all events, in order, but for what has been overtaken."""
        rest = list(told)
        feed = set(self.feed(user))
        for _, step in groupby(events, key=lambda event: event[0]):
            must, may = [], []
            for _, kind, what in step:
                if kind in ("added", "maybe added"):
                    act = self.acts[int(what)]
                    if act.deleted or not self.via(user, act.id):
                        continue
                    # What was trimmed since may be told as long as its body is there.
                    certain = kind == "added" and act.id in feed
                    (must if certain else may).append(("added", what))
                else:
                    must.append((kind, what))
            while rest and rest[0] in must + may:
                first = rest.pop(0)
                (must if first in must else may).remove(first)
            assert not must, f"not told: {must}; told: {told}; of {events}"
        assert not rest, f"told as well: {rest}; told: {told}; of {events}"
