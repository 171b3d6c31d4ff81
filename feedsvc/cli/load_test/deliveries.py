"""Which event belongs to which publish, how long it took, and which never came."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Awaited:
    due: int
    streams: set[int]
    """Those through which it has not come yet."""


class Deliveries:
    """Takes publishes and arrivals, in whatever order the processes tell of them.

    An event often arrives before its publish is answered, and so before its id is known. Memory is
    that of what is on its way, and of events whose publish got no answer. Times are microseconds.
    """

    def __init__(self, reached: Mapping[int, frozenset[int]]) -> None:
        """``reached`` are the streams through which each author's activities come."""
        self._reached = reached
        self._awaited: dict[int, _Awaited] = {}
        self._early: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)

    def published(self, activity: int, author: int, due: int) -> Iterator[tuple[int, int]]:
        """The publish was answered. Yields when it was due, and how long each early event took."""
        streams = set(self._reached.get(author, ()))
        if not streams:
            return
        self._awaited[activity] = _Awaited(due, streams)
        for stream, at in self._early.pop(activity, ()):
            yield from self.arrived(activity, stream, at)

    def arrived(self, activity: int, stream: int, at: int) -> Iterator[tuple[int, int]]:
        """An event came. Yields when its publish was due, and how long it took, once both known."""
        awaited = self._awaited.get(activity)
        if awaited is None:
            self._early[activity].append((stream, at))
            return
        awaited.streams.discard(stream)
        if not awaited.streams:
            del self._awaited[activity]
        yield awaited.due, max(0, at - awaited.due)

    def missing(self, since: int) -> int:
        """How many events are still to come of activities that were due since then."""
        return sum(len(one.streams) for one in self._awaited.values() if one.due >= since)
