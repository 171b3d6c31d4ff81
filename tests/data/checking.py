"""Comparing what the service answers with what the oracle says it must."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise

from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import ListActivitiesResponse
from activityfeed.v1.feed_pb2 import FeedPage, PageEnd

from tests.data.oracle import Event, Oracle
from tests.data.serving import Readers, for_each

log = logging.getLogger("feedsvc.tests.data")

PAGE = 100
#: Differences that are told.
TOLD = 10

Expected = Callable[[Event], Activity]
"""The activity that an event must have become, but for its id (and external id, if it has none)."""


class Check:
    """Looks at pages, and collects what is not as it must be."""

    def __init__(self, oracle: Oracle, expected: Expected) -> None:
        self.oracle = oracle
        self.differences: list[str] = []
        self.items = 0
        self.floors: dict[frozenset[str], str] = {}
        """By the outboxes that are trimmed there, where feeds may be incomplete from."""
        self._expected = expected
        self._seen: dict[str, Activity] = {}
        self._numbers: dict[str, int] = {}
        self._ids: dict[int, str] = {}

    def done(self) -> None:
        more = len(self.differences) - TOLD
        told = self.differences[:TOLD] + ([f"and {more} more"] if more > 0 else [])
        assert not told, "\n".join(told)

    @property
    def activities(self) -> int:
        """How many different ones were seen."""
        return len(self._numbers)

    def differs(self, where: str, what: str) -> None:
        self.differences.append(f"{where}: {what}")

    def _number(self, where: str, activity: Activity) -> int:
        """The event that an activity is; -1 if it is none."""
        known = self._seen.get(activity.id)
        if known is None:
            self._seen[activity.id] = activity
            self._numbers[activity.id] = self._identify(where, activity)
        elif known != activity:
            self.differs(where, f"{activity} was {known} elsewhere")
        return self._numbers[activity.id]

    def _identify(self, where: str, activity: Activity) -> int:
        events, numbers = self.oracle.data.events, self.oracle.data.numbers
        event = Event(
            actor=activity.actor,
            verb=activity.verb,
            thing=activity.object.id,
            ms=activity.publish_time.ToMilliseconds(),
            to=tuple(activity.to),
            name=activity.external_id,
        )
        number = numbers.get(event)
        if number is None:
            number = numbers.get(
                Event(event.actor, event.verb, event.thing, event.ms, event.to, None), -1
            )
        if number < 0:
            self.differs(where, f"not in the files: {activity}")
            return -1
        expected = self._expected(events[number])
        expected.id, expected.etag = activity.id, "v1"
        expected.create_time.CopyFrom(activity.create_time)
        if not expected.external_id:
            expected.external_id = activity.external_id or "one of its own"
        if activity != expected:
            self.differs(where, f"{activity} is not {expected}")
        if int(activity.id) >> 21 != events[number].ms:
            self.differs(where, f"the id is of another time: {activity}")
        if (other := self._ids.setdefault(number, activity.id)) != activity.id:
            self.differs(where, f"{activity.id} is {other} elsewhere: {activity}")
        return number

    def _list(self, where: str, activities: Sequence[Activity], expected: Collection[int]) -> None:
        """Whether these are the expected ones, in the order of their ids."""
        ids = [int(one.id) for one in activities]
        if any(above <= below for above, below in pairwise(ids)):
            self.differs(where, f"not in order, or twice: {ids}")
        found = {self._number(where, one) for one in activities}
        self.items += len(activities)
        if len(activities) != len(expected) or found != set(expected):
            events = self.oracle.data.events
            missing = [events[number] for number in set(expected) - found]
            extra = [events[number] for number in found - set(expected) - {-1}]
            self.differs(
                where,
                f"{len(activities)} instead of {len(expected)}: missing {missing}, extra {extra}",
            )

    def _ends(
        self, where: str, pages: Sequence[FeedPage | ListActivitiesResponse], *, trimmed: bool
    ) -> None:
        """Whether the last page, and only it, is the end, and says why."""
        end = PageEnd.PAGE_END_RETENTION if trimmed else PageEnd.PAGE_END_FEED_END
        ends = [page.end for page in pages]
        if ends != [PageEnd.PAGE_END_MORE] * (len(pages) - 1) + [end]:
            self.differs(where, f"pages end with {ends}, and the last must with {end}")
        if not all(page.newer_page_token for page in pages):
            self.differs(where, "a page without newer_page_token")

    def feed(self, user: str, pages: Sequence[FeedPage]) -> None:
        """All pages of a feed, newest first, of PAGE items each."""
        where = f"feed of {user}"
        items = [item for page in pages for item in page.items]
        self._list(where, [item.activity.activity for item in items], self.oracle.feed(user))
        via = self.oracle.data.via
        for item in items:
            number = self._numbers[item.activity.activity.id]
            if number >= 0 and list(item.via) != via(user, number):
                self.differs(where, f"{item.activity.activity.id} came via {item.via}")
        full = [len(page.items) for page in pages[:-1]]
        if full != [PAGE] * len(full):
            self.differs(where, f"pages of {full}")
        trimmed_ms, trimmed = self.oracle.trimmed(user)
        self._ends(where, pages, trimmed=bool(trimmed))
        self._incomplete(where, pages, trimmed_ms, trimmed)

    def _incomplete(
        self, where: str, pages: Sequence[FeedPage], trimmed_ms: int, trimmed: frozenset[str]
    ) -> None:
        """Whether pages say from where down something may be missing."""
        floor = pages[-1].incomplete_below
        if bool(floor) != bool(trimmed):
            self.differs(where, f"incomplete below {floor!r}, trimmed is {trimmed}")
        if not trimmed or not floor:
            return
        if int(floor) >> 21 != trimmed_ms:
            self.differs(where, f"incomplete below {floor}, which is not of {trimmed_ms} ms")
        if floor in self._seen and not self._let_go(self._numbers[floor], trimmed):
            self.differs(where, f"incomplete below {floor}, which is there")
        if (other := self.floors.setdefault(trimmed, floor)) != floor:
            self.differs(where, f"{trimmed} trimmed at {floor}, elsewhere at {other}")
        for page in pages[:-1]:
            below = page.items and page.items[-1].activity.activity.id < floor
            if page.incomplete_below != (floor if below else ""):
                self.differs(where, f"an earlier page incomplete below {page.incomplete_below!r}")

    def _let_go(self, number: int, entities: Collection[str]) -> bool:
        """Whether one of these outboxes has had an event and let it go, as others may have not."""
        published, kept = self.oracle.data.published, self.oracle.kept
        return any(number in published[one] and number not in kept[one] for one in entities)

    def outbox(
        self, entity: str, pages: Sequence[ListActivitiesResponse], *, own_only: bool = False
    ) -> None:
        """All pages of an outbox."""
        where = f"outbox of {entity}"
        expected = self.oracle.outbox(entity, own_only=own_only)
        self._list(where, [one.activity for page in pages for one in page.activities], expected)
        self._ends(where, pages, trimmed=entity in self.oracle.dropped_ms)

    async def feeds(self, readers: Readers, users: Collection[str]) -> None:
        """Reads and compares the feeds of users."""
        begun, before = time.monotonic(), self.items

        async def one(user: str) -> None:
            self.feed(user, await readers.feed(user, PAGE))

        await for_each(users, one)
        seconds = time.monotonic() - begun
        log.info(
            "%d feeds with %d items in %.1f s: %.0f/s",
            *(len(users), self.items - before, seconds, len(users) / seconds),
        )

    async def outboxes(
        self, readers: Readers, entities: Collection[str], *, own_only: bool = False
    ) -> None:
        """Reads and compares the outboxes of entities."""

        async def one(entity: str) -> None:
            self.outbox(entity, await readers.outbox(entity, own_only=own_only), own_only=own_only)

        await for_each(entities, one)

    async def settle(self, readers: Readers, entities: Iterable[str]) -> None:
        """Has the oracle told which events of one second outboxes keep."""

        async def one(entity: str) -> None:
            pages = await readers.outbox(entity)
            where = f"outbox of {entity}"
            found = [self._number(where, one.activity) for page in pages for one in page.activities]
            self.oracle.settle(entity, found)

        await for_each(list(entities), one)
