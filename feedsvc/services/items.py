"""What the services that answer with feed items have in common."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.feed_pb2 import FeedPage
from activityfeed.v1.view_pb2 import View

from feedsvc import convert, wire
from feedsvc.core.engine import Engine
from feedsvc.core.pages import Page
from feedsvc.tokens import Tokens


def view_name(view: View) -> str:  # noqa: ARG001 (validation lets no other view through yet)
    """What the tokens of a view are bound to."""
    return "flat"


class FeedQuery(NamedTuple):
    """Which feed is read, for whom, and how it is shown."""

    user: str
    viewer: str
    view: str

    @classmethod
    def of(cls, request: Any) -> Self:
        """The query of a request that has a user, a viewer and a view."""
        return cls(request.user, request.viewer, view_name(request.view))

    @property
    def page_bound(self) -> tuple[str, ...]:
        """What its page tokens are bound to."""
        return ("feed", *self)

    @property
    def resume_bound(self) -> tuple[str, ...]:
        """What its resume tokens are bound to."""
        return ("log", *self)


def outbox_bound(entity: str, viewer: str, view: str) -> tuple[str, ...]:
    """What the resume tokens of an outbox are bound to."""
    return ("outbox log", entity, viewer, view)


async def feed_items(
    engine: Engine, query: FeedQuery, found: Sequence[tuple[int, bytes]], *, just_read: bool
) -> dict[int, bytes]:
    """Activities of a user's feed as FeedItems with their routes, serialised, by id.

    ``just_read``: the ids were read from the feed, not from a log, so that the only route of an
    activity is followed. Else what no route brings any more, because its source was unfollowed
    meanwhile, is left out, as is what the viewer may not see.
    """
    user = query.user
    seen = await engine.viewers.activities(query.viewer, found)
    unsure = {
        activity_id: convert.routes(Activity.FromString(wire.body(frame)))
        for activity_id, frame in seen
        if not just_read or wire.has_to(frame)
    }
    if not unsure:
        return {activity_id: wire.feed_item(activity_id, frame) for activity_id, frame in seen}
    sources = {source for routes in unsure.values() for source in routes} - {user}
    followed = await engine.edges.followed_among(user, sorted(sources)) | {user}
    items = {}
    for activity_id, frame in seen:
        if activity_id not in unsure:
            items[activity_id] = wire.feed_item(activity_id, frame)
        elif via := followed.intersection(unsure[activity_id]):
            routes = sorted(via, key=str.encode)
            items[activity_id] = wire.feed_item_via(activity_id, frame, routes)
    return items


async def feed_page(engine: Engine, tokens: Tokens, query: FeedQuery, page: Page) -> bytes:
    """A FeedPage, serialised."""
    older, newer = convert.page_tokens(page, tokens, *query.page_bound)
    rest = FeedPage(
        next_page_token=older,
        newer_page_token=newer,
        resume_token=tokens.log(page.log_tail, *query.resume_bound),
        end=convert.PAGE_ENDS[page.end],
        incomplete_below=str(page.incomplete_below) if page.incomplete_below else None,
    )
    items = await feed_items(engine, query, page.items, just_read=True)
    pieces = [wire.field(wire.FIRST, item) for item in items.values()]
    return b"".join((*pieces, rest.SerializeToString()))
