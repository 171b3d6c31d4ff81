"""Events and their publishes: how long each event took, and which events are missing."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Awaited:
    due: int
    streams: set[int]
    """Streams through which the activity has not come yet."""


class Deliveries:
    """Publishes and arrivals, in whatever order the processes report them.

    An event often arrives before its publish is answered, and so before its id is known. Only
    activities on their way, and events whose publish got no answer, take memory. Times are
    microseconds.
    """

    def __init__(self, reached: Mapping[int, frozenset[int]]) -> None:
        """``reached`` are the streams through which each author's activities come."""
        self._reached = reached
        self._awaited: dict[int, _Awaited] = {}
        self._early: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)

    def published(self, activity_id: int, author: int, due: int) -> Iterator[tuple[int, int]]:
        """Note an answered publish. Yield its due time, and how long each early event took."""
        streams = set(self._reached.get(author, ()))
        if not streams:
            return
        self._awaited[activity_id] = _Awaited(due, streams)
        for stream, arrival in self._early.pop(activity_id, ()):
            yield from self.arrived(activity_id, stream, arrival)

    def arrived(self, activity_id: int, stream: int, arrival: int) -> Iterator[tuple[int, int]]:
        """Note an event. Yield when its publish was due, and how long it took, if both are known.

        If the publish has no answer yet, `published` yields them.
        """
        awaited = self._awaited.get(activity_id)
        if awaited is None:
            self._early[activity_id].append((stream, arrival))
            return
        awaited.streams.discard(stream)
        if not awaited.streams:
            del self._awaited[activity_id]
        yield awaited.due, max(0, arrival - awaited.due)

    def missing(self, since: int) -> int:
        """Return the number of missing events of activities that were due at ``since`` or later."""
        return sum(
            len(awaited.streams) for awaited in self._awaited.values() if awaited.due >= since
        )
