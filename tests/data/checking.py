"""Comparison of the service's answers with the oracle's."""

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
#: Differences that a failure names.
NAMED_DIFFERENCES = 10

Expected = Callable[[Event], Activity]
"""Makes the activity that an event must become, but for the values that the service gives."""


def activities_of(pages: Sequence[ListActivitiesResponse]) -> list[Activity]:
    """Return the activities of an outbox's pages."""
    return [listed.activity for page in pages for listed in page.activities]


class Check:
    """Compares pages with the oracle, and collects the differences."""

    def __init__(self, oracle: Oracle, expected: Expected) -> None:
        self.oracle = oracle
        self.differences: list[str] = []
        self.items = 0
        self.floors: dict[frozenset[str], str] = {}
        """By trimmed outboxes, the id below which feeds with these outboxes may be incomplete."""
        self._expected = expected
        self._seen: dict[str, Activity] = {}
        self._numbers: dict[str, int] = {}
        self._ids: dict[int, str] = {}

    def done(self) -> None:
        """Fail if anything differs."""
        unnamed = len(self.differences) - NAMED_DIFFERENCES
        lines = self.differences[:NAMED_DIFFERENCES]
        lines += [f"and {unnamed} more differences"] if unnamed > 0 else []
        assert not lines, "\n".join(lines)

    @property
    def activities(self) -> int:
        """Number of different activities in the compared pages."""
        return len(self._numbers)

    def differs(self, subject: str, difference: str) -> None:
        self.differences.append(f"{subject}: {difference}")

    def _number(self, subject: str, activity: Activity) -> int:
        """Return the number of the activity's event; -1 if the files have no such event."""
        earlier = self._seen.get(activity.id)
        if earlier is None:
            self._seen[activity.id] = activity
            self._numbers[activity.id] = self._identify(subject, activity)
        elif earlier != activity:
            self.differs(subject, f"{activity} was {earlier} on another page")
        return self._numbers[activity.id]

    def _identify(self, subject: str, activity: Activity) -> int:
        events, numbers = self.oracle.data.events, self.oracle.data.numbers
        event = Event(
            actor=activity.actor,
            verb=activity.verb,
            object_id=activity.object.id,
            ms=activity.publish_time.ToMilliseconds(),
            to=tuple(activity.to),
            name=activity.external_id,
        )
        number = numbers.get(event)
        if number is None:
            number = numbers.get(
                Event(event.actor, event.verb, event.object_id, event.ms, event.to, None), -1
            )
        if number < 0:
            self.differs(subject, f"not in the files: {activity}")
            return -1
        expected = self._expected(events[number])
        expected.id, expected.etag = activity.id, "v1"
        expected.create_time.CopyFrom(activity.create_time)
        if not expected.external_id:
            expected.external_id = activity.external_id or "an external id"
        if activity != expected:
            self.differs(subject, f"{activity} is not {expected}")
        if int(activity.id) >> 21 != events[number].ms:
            self.differs(subject, f"the id has another time: {activity}")
        if (other_id := self._ids.setdefault(number, activity.id)) != activity.id:
            self.differs(subject, f"{activity.id} was {other_id} on another page: {activity}")
        return number

    def _compare_list(
        self, subject: str, activities: Sequence[Activity], expected: Collection[int]
    ) -> None:
        """Compare activities with the expected events, and check that their ids descend."""
        ids = [int(activity.id) for activity in activities]
        if any(above <= below for above, below in pairwise(ids)):
            self.differs(subject, f"ids repeat or are out of order: {ids}")
        numbers = {self._number(subject, activity) for activity in activities}
        self.items += len(activities)
        if len(activities) != len(expected) or numbers != set(expected):
            events = self.oracle.data.events
            missing = [events[number] for number in set(expected) - numbers]
            extra = [events[number] for number in numbers - set(expected) - {-1}]
            self.differs(
                subject,
                f"{len(activities)} instead of {len(expected)}: missing {missing}, extra {extra}",
            )

    def _compare_ends(
        self, subject: str, pages: Sequence[FeedPage | ListActivitiesResponse], *, trimmed: bool
    ) -> None:
        """Check that the last page and no other is the end, for the right reason."""
        end = PageEnd.PAGE_END_RETENTION if trimmed else PageEnd.PAGE_END_FEED_END
        ends = [page.end for page in pages]
        if ends != [PageEnd.PAGE_END_MORE] * (len(pages) - 1) + [end]:
            self.differs(subject, f"pages end with {ends}; the last must end with {end}")
        if not all(page.newer_page_token for page in pages):
            self.differs(subject, "a page without newer_page_token")

    def feed(self, user: str, pages: Sequence[FeedPage]) -> None:
        """Compare all pages of a feed, newest first, of PAGE items each."""
        subject = f"feed of {user}"
        items = [item for page in pages for item in page.items]
        self._compare_list(
            subject, [item.activity.activity for item in items], self.oracle.feed(user)
        )
        via = self.oracle.data.via
        for item in items:
            number = self._numbers[item.activity.activity.id]
            if number >= 0 and list(item.via) != via(user, number):
                self.differs(subject, f"{item.activity.activity.id} came via {item.via}")
        full = [len(page.items) for page in pages[:-1]]
        if full != [PAGE] * len(full):
            self.differs(subject, f"pages of {full}")
        trimmed_ms, trimmed = self.oracle.trimmed(user)
        self._compare_ends(subject, pages, trimmed=bool(trimmed))
        self._compare_floor(subject, pages, trimmed_ms, trimmed)

    def _compare_floor(
        self, subject: str, pages: Sequence[FeedPage], trimmed_ms: int, trimmed: frozenset[str]
    ) -> None:
        """Check that pages name the id below which the feed may be incomplete."""
        floor = pages[-1].incomplete_below
        if bool(floor) != bool(trimmed):
            self.differs(
                subject, f"incomplete below {floor!r}, though {trimmed or 'nothing'} is trimmed"
            )
        if not trimmed or not floor:
            return
        if int(floor) >> 21 != trimmed_ms:
            self.differs(subject, f"incomplete below {floor}, which is not from {trimmed_ms} ms")
        if floor in self._seen and not self._is_dropped(self._numbers[floor], trimmed):
            self.differs(subject, f"incomplete below {floor}, which no outbox dropped")
        if (other_floor := self.floors.setdefault(trimmed, floor)) != floor:
            self.differs(subject, f"{trimmed} trimmed at {floor}, in another feed at {other_floor}")
        for page in pages[:-1]:
            below = page.items and page.items[-1].activity.activity.id < floor
            if page.incomplete_below != (floor if below else ""):
                self.differs(subject, f"an earlier page incomplete below {page.incomplete_below!r}")

    def _is_dropped(self, number: int, entities: Collection[str]) -> bool:
        """Return whether any of these outboxes held the event and dropped it."""
        published, kept = self.oracle.data.published, self.oracle.kept
        return any(
            number in published[entity] and number not in kept[entity] for entity in entities
        )

    def outbox(
        self, entity: str, pages: Sequence[ListActivitiesResponse], *, own_only: bool = False
    ) -> None:
        """Compare all pages of an outbox."""
        subject = f"outbox of {entity}"
        expected = self.oracle.outbox(entity, own_only=own_only)
        self._compare_list(subject, activities_of(pages), expected)
        self._compare_ends(subject, pages, trimmed=entity in self.oracle.dropped_ms)

    async def feeds(self, readers: Readers, users: Collection[str]) -> None:
        """Read the feeds of users, and compare them."""
        start, items_before = time.monotonic(), self.items

        async def read_and_compare(user: str) -> None:
            self.feed(user, await readers.feed(user, PAGE))

        await for_each(users, read_and_compare)
        seconds = time.monotonic() - start
        log.info(
            "%d feeds with %d items in %.1f s: %.0f/s",
            *(len(users), self.items - items_before, seconds, len(users) / seconds),
        )

    async def outboxes(
        self, readers: Readers, entities: Collection[str], *, own_only: bool = False
    ) -> None:
        """Read the outboxes of entities, and compare them."""

        async def read_and_compare(entity: str) -> None:
            self.outbox(entity, await readers.outbox(entity, own_only=own_only), own_only=own_only)

        await for_each(entities, read_and_compare)

    async def settle(self, readers: Readers, entities: Iterable[str]) -> None:
        """Tell the oracle which events of the same second the outboxes keep."""

        async def read_and_settle(entity: str) -> None:
            pages = await readers.outbox(entity)
            subject = f"outbox of {entity}"
            numbers = [self._number(subject, activity) for activity in activities_of(pages)]
            self.oracle.settle(entity, numbers)

        await for_each(list(entities), read_and_settle)
