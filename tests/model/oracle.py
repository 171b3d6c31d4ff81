"""The plain model of the service: dictionaries and sorted lists, no Redis, no clocks, no caches."""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby


@dataclass
class ModelActivity:
    """An activity, as it was published."""

    id: int
    actor: str
    to: tuple[str, ...]
    for_followers: bool
    deleted: bool = False

    @property
    def routes(self) -> tuple[str, ...]:
        """The entities whose outboxes the activity was published to."""
        return ((self.actor,) if self.for_followers else ()) + self.to


@dataclass
class Outbox:
    """The newest ids of an outbox, up to its cap."""

    cap: int
    ids: list[int] = field(default_factory=list)
    floor: int = 0
    """The newest id that was trimmed; 0 if none was."""

    @property
    def refused_up_to(self) -> int:
        """The greatest id that the outbox refuses to a new activity."""
        return self.ids[0] if len(self.ids) == self.cap else self.floor

    def add(self, activity_id: int) -> bool:
        """Add an id and trim; return whether the outbox holds the id afterwards."""
        if activity_id in self.ids:
            return True
        if activity_id <= self.floor:
            return False
        insort(self.ids, activity_id)
        if len(self.ids) > self.cap:
            self.floor = self.ids.pop(0)
        return activity_id > self.floor


@dataclass
class Log:
    """The live log of a user."""

    events: list[tuple[int, str, str]] = field(default_factory=list)
    """The step, the kind and the subject (an activity or an entity) of each event, in order."""
    announced: set[int] = field(default_factory=set)
    """Activities that have an "added" event, certain or possible."""


class Oracle:
    """All activities and edges, and the feeds and logs that result from them."""

    def __init__(self, outbox_cap: int) -> None:
        self._cap = outbox_cap
        self.activities: dict[int, ModelActivity] = {}
        self.outboxes: dict[str, Outbox] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.logs: dict[str, Log] = {}
        self.step = 0
        """Number of operations so far. The parts of one step may take effect in any order."""

    def outbox(self, entity: str) -> Outbox:
        return self.outboxes.setdefault(entity, Outbox(self._cap))

    def sources(self, user: str) -> set[str]:
        return {user} | {followee for follower, followee in self.edges if follower == user}

    def publish(self, activity: ModelActivity) -> None:
        """Take in a new activity that the service has accepted."""
        assert activity.id not in self.activities, "the service used an id twice"
        self.activities[activity.id] = activity
        holders = [entity for entity in activity.routes if self.outbox(entity).add(activity.id)]
        for user, log in self.logs.items():
            if self.sources(user).intersection(holders) and activity.id not in log.announced:
                log.announced.add(activity.id)
                log.events.append((self.step, "added", str(activity.id)))

    def deliver_again(self, activity: ModelActivity) -> None:
        """Take in a repeated publish.

        It may announce the activity to readers who went live after the first publish, but never
        twice.
        """
        for user, log in self.logs.items():
            readers_sources = self.sources(user)
            if readers_sources.intersection(activity.routes) and activity.id not in log.announced:
                log.announced.add(activity.id)
                log.events.append((self.step, "maybe added", str(activity.id)))

    def delete(self, activity: ModelActivity) -> None:
        activity.deleted = True
        for user, log in self.logs.items():
            if self.sources(user).intersection(activity.routes):
                log.events.append((self.step, "removed", str(activity.id)))

    def follow(self, follower: str, followee: str) -> bool:
        """Add an edge; return whether the edge is new."""
        if (follower, followee) in self.edges:
            return False
        self.edges[follower, followee] = None
        self._source_changed(follower, "followed", followee)
        return True

    def unfollow(self, follower: str, followee: str) -> bool:
        """Remove an edge; return whether the edge existed."""
        if (follower, followee) not in self.edges:
            return False
        del self.edges[follower, followee]
        self._source_changed(follower, "unfollowed", followee)
        return True

    def _source_changed(self, user: str, kind: str, entity: str) -> None:
        if user in self.logs:
            self.logs[user].events.append((self.step, kind, entity))

    def is_alive(self, activity_id: int) -> bool:
        """Return whether the activity is not deleted and an outbox still holds it."""
        activity = self.activities[activity_id]
        return not activity.deleted and any(
            activity_id in self.outbox(entity).ids for entity in activity.routes
        )

    def listing(self, entity: str, *, own_only: bool = False) -> list[int]:
        """Return the ids that a listing of the outbox shows, newest first."""
        return [
            activity_id
            for activity_id in reversed(self.outbox(entity).ids)
            if not self.activities[activity_id].deleted
            and (not own_only or self.activities[activity_id].actor == entity)
        ]

    def feed(self, user: str) -> list[int]:
        """Return the feed by its definition, newest first."""
        held_ids = {
            activity_id for entity in self.sources(user) for activity_id in self.outbox(entity).ids
        }
        return sorted(
            (activity_id for activity_id in held_ids if not self.activities[activity_id].deleted),
            reverse=True,
        )

    def floor(self, user: str) -> int:
        """Return the id from which on downwards the feed may be incomplete; 0 if it is complete."""
        return max(self.outbox(entity).floor for entity in self.sources(user))

    def via(self, user: str, activity_id: int) -> list[str]:
        sources = self.sources(user)
        routes = {entity for entity in self.activities[activity_id].routes if entity in sources}
        return sorted(routes, key=str.encode)

    def go_live(self, user: str) -> None:
        if user not in self.logs:
            self.logs[user] = Log()

    def check_received(
        self,
        user: str,
        events: Sequence[tuple[int, str, str]],
        received: Sequence[tuple[str, str]],
    ) -> None:
        """Check that a stream has brought all events, in order.

        Events that later events have made void may be missing.
        """
        unexplained = list(received)
        feed = set(self.feed(user))
        for _, step_events in groupby(events, key=lambda event: event[0]):
            required, optional = [], []
            for _, kind, subject in step_events:
                if kind in ("added", "maybe added"):
                    activity = self.activities[int(subject)]
                    if activity.deleted or not self.via(user, activity.id):
                        continue
                    # An activity that was trimmed since may arrive as long as its body exists.
                    is_certain = kind == "added" and activity.id in feed
                    (required if is_certain else optional).append(("added", subject))
                else:
                    required.append((kind, subject))
            while unexplained and unexplained[0] in required + optional:
                event = unexplained.pop(0)
                (required if event in required else optional).remove(event)
            assert not required, f"missing: {required}; received: {received}; of {events}"
        assert not unexplained, f"too many: {unexplained}; received: {received}; of {events}"
