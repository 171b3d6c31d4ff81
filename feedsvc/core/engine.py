"""The core as one thing: what the services work with."""

from dataclasses import dataclass
from typing import Self

from feedsvc.core.activities import Activities
from feedsvc.core.edges import Edges
from feedsvc.core.fanout import Fanout
from feedsvc.core.feed import Feeds
from feedsvc.core.jobs import Jobs
from feedsvc.core.live import Live
from feedsvc.core.retention import Retention
from feedsvc.core.store import Store
from feedsvc.core.viewers import Viewers
from feedsvc.core.worker import Workers


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that works on one store."""

    store: Store
    fanout: Fanout
    activities: Activities
    edges: Edges
    feeds: Feeds
    live: Live
    jobs: Jobs
    workers: Workers
    retention: Retention
    viewers: Viewers

    @classmethod
    def on(cls, store: Store, aside: Store | None = None, logs: Store | None = None) -> Self:
        """The core on an opened store.

        ``aside`` and ``logs`` are the same one by other connections, if not this: for its workers,
        and for reading logs, which then hold up no calls.
        """
        jobs = Jobs(store)
        fanout = Fanout(store, jobs)
        activities = Activities(store, fanout, jobs)
        edges = Edges(store, fanout)
        feeds = Feeds(store, activities, edges, fanout)
        workers = Workers(aside or store, fanout, jobs, store)
        live = Live(logs or store)
        retention = Retention(aside or store)
        return cls(
            store, fanout, activities, edges, feeds, live, jobs, workers, retention, Viewers()
        )

    async def start_log(self, user: str) -> str:
        """Makes a user live; the place at the end of its log.

        The feed is warmed first: what it holds is then known to a new log, and never told as new.
        """
        await self.feeds.warm(user)
        return await self.live.open(self.live.of_feed(user))
