"""The engine: the core as one object, which the services work with."""

from dataclasses import dataclass
from typing import Self

from feedsvc.core.activities import Activities
from feedsvc.core.background import CommittedWork
from feedsvc.core.edges import Edges
from feedsvc.core.fanout import Fanout
from feedsvc.core.feeds import Feeds
from feedsvc.core.jobs import Jobs
from feedsvc.core.live import Live
from feedsvc.core.live_logs import LiveLogs
from feedsvc.core.retention import Retention
from feedsvc.core.store import Store
from feedsvc.core.viewers import Viewers
from feedsvc.core.worker import Workers


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that works on one store."""

    store: Store
    work: CommittedWork
    fanout: Fanout
    activities: Activities
    edges: Edges
    feeds: Feeds
    logs: LiveLogs
    live: Live
    jobs: Jobs
    workers: Workers
    retention: Retention
    viewers: Viewers

    @classmethod
    def on(
        cls,
        store: Store,
        worker_store: Store | None = None,
        log_store: Store | None = None,
    ) -> Self:
        """Return the core on an opened store.

        ``worker_store`` and ``log_store`` are siblings of ``store``: connections for workers and
        for reading logs, which then hold up no calls. Both default to ``store``.
        """
        work = CommittedWork()
        jobs = Jobs(store)
        fanout = Fanout(store, jobs)
        activities = Activities(store, fanout, jobs, work)
        edges = Edges(store, fanout, work)
        logs = LiveLogs(log_store or store)
        return cls(
            store,
            work,
            fanout,
            activities,
            edges,
            Feeds(store, activities, edges, work),
            logs,
            Live(log_store or store, logs),
            jobs,
            Workers(worker_store or store, fanout, jobs, store),
            Retention(worker_store or store),
            Viewers(),
        )

    async def start_log(self, user: str) -> str:
        """Have the live log of a user's feed written; return the position at its end.

        Warm the feed first: a new log then knows the feed's activities, and never announces them as
        new.
        """
        await self.feeds.warm(user)
        return await self.logs.open(self.logs.of_feed(user))
