"""The core as one thing: what the services work with."""

from dataclasses import dataclass
from typing import Self

from feedsvc.core.activities import Activities
from feedsvc.core.edges import Edges
from feedsvc.core.fanout import Fanout
from feedsvc.core.feed import Feeds
from feedsvc.core.live import Live
from feedsvc.core.store import Store


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that works on one store."""

    store: Store
    fanout: Fanout
    activities: Activities
    edges: Edges
    feeds: Feeds
    live: Live

    @classmethod
    def on(cls, store: Store) -> Self:
        """The core on an opened store."""
        fanout = Fanout(store)
        activities = Activities(store, fanout)
        edges = Edges(store, fanout)
        return cls(
            store, fanout, activities, edges, Feeds(store, activities, edges, fanout), Live(store)
        )

    async def start_log(self, user: str) -> str:
        """Makes a user live; the place at the end of its log.

        The feed is warmed first: what it holds is then known to a new log, and never told as new.
        """
        await self.feeds.warm(user)
        return await self.live.open(user)
