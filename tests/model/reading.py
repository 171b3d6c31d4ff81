"""Rules that read pages of feeds and outboxes."""

from dataclasses import dataclass

from activityfeed.v1.feed_pb2 import FeedPage, PageEnd
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, rule

from tests.model.machine import ModelMachine, names, page_sizes
from tests.serving import ids_on_page


@dataclass
class Walk:
    """A reader in the middle of a feed, with the tokens of its last page."""

    user: str
    page: FeedPage
    older_below: int | None
    """The next page towards older ids begins below this id; None: there is no such page."""
    newer_above: int | None
    """The next page towards newer ids begins above this id; None: the model cannot tell."""


class ReadingRules(ModelMachine):
    walks: Bundle[Walk] = Bundle("walks")

    def _turn_page(self, walk: Walk, token: str, size: int, *, older: bool) -> None:
        """Read the next page and compare it, its tokens and its end with the model."""
        page = self.run(self.service.page(walk.user, token, size))
        remaining = self._remaining(walk, older=older)
        expected = remaining[:size] if older else remaining[-size:]
        assert [int(activity_id) for activity_id in ids_on_page(page)] == expected
        for item in page.items:
            assert list(item.via) == self.oracle.via(walk.user, int(item.activity.activity.id))
            assert (
                item.activity.activity.actor
                == self.oracle.activities[int(item.activity.activity.id)].actor
            )
        has_more = len(remaining) > size
        self._check_end(walk, page, older=older, has_more=has_more)
        if older:
            start = walk.older_below
            # An empty page at the top stands above deleted activities, whatever their ids were.
            walk.newer_above = expected[0] if expected else start - 1 if start else None
            walk.older_below = expected[-1] if has_more else None
        else:
            assert walk.newer_above is not None
            walk.older_below = expected[-1] if expected else walk.newer_above + 1
            walk.newer_above = expected[0] if expected else walk.newer_above
        walk.page = page

    def _remaining(self, walk: Walk, *, older: bool) -> list[int]:
        """Return the ids that the walk has not read yet in a direction, newest first."""
        feed = self.oracle.feed(walk.user)
        if not older:
            floor = walk.newer_above
            return [
                activity_id for activity_id in feed if floor is not None and activity_id > floor
            ]
        ceiling = walk.older_below
        return [activity_id for activity_id in feed if ceiling is None or activity_id < ceiling]

    def _check_end(self, walk: Walk, page: FeedPage, *, older: bool, has_more: bool) -> None:
        floor = self.oracle.floor(walk.user)
        if has_more:
            assert page.end == PageEnd.PAGE_END_MORE
        elif not older:
            assert page.end == PageEnd.PAGE_END_NEWEST
        else:
            assert page.end == (PageEnd.PAGE_END_RETENTION if floor else PageEnd.PAGE_END_FEED_END)
            assert page.incomplete_below == (str(floor) if floor else "")
        assert bool(page.next_page_token) == (has_more or not older)
        assert page.newer_page_token
        assert page.resume_token

    @rule(target=walks, user=names, size=page_sizes)
    def open_feed(self, user: str, size: int) -> Walk:
        return self._first_page(user, size)

    def _first_page(self, user: str, size: int) -> Walk:
        walk = Walk(user, FeedPage(), None, 0)
        self._turn_page(walk, "", size, older=True)
        return walk

    @rule(walk=walks, size=page_sizes)
    def read_older_page(self, walk: Walk, size: int) -> None:
        if walk.older_below is not None:
            self._turn_page(walk, walk.page.next_page_token, size, older=True)

    @rule(walk=walks, size=page_sizes)
    def read_newer_page(self, walk: Walk, size: int) -> None:
        if walk.newer_above is not None:
            self._turn_page(walk, walk.page.newer_page_token, size, older=False)

    @rule(user=names, size=page_sizes)
    def walk_to_the_end(self, user: str, size: int) -> None:
        walk = self._first_page(user, size)
        while walk.older_below is not None:
            self._turn_page(walk, walk.page.next_page_token, size, older=True)

    @rule(entity=names, size=page_sizes, own_only=st.booleans())
    def list_outbox(self, entity: str, size: int, own_only: bool) -> None:
        listed = self.run(self.service.outbox(entity, page_size=size, own_only=own_only))
        assert [int(activity_id) for activity_id in listed] == self.oracle.listing(
            entity, own_only=own_only
        )
