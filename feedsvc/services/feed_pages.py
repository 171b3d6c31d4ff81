"""Feed pages and their items, for all services that answer with them."""

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
    """Return the name of a view in the scopes of tokens."""
    return "flat"


class FeedQuery(NamedTuple):
    """The question that a feed page answers: whose feed, for which viewer, in which view."""

    user: str
    viewer: str
    view: str

    @classmethod
    def of(cls, request: Any) -> Self:
        """Return the query of a request that has a user, a viewer and a view."""
        return cls(request.user, request.viewer, view_name(request.view))

    @property
    def page_scope(self) -> tuple[str, ...]:
        """The scope of the feed's page tokens."""
        return ("feed", *self)

    @property
    def resume_scope(self) -> tuple[str, ...]:
        """The scope of the feed's resume tokens."""
        return ("log", *self)


def outbox_resume_scope(entity: str, viewer: str, view: str) -> tuple[str, ...]:
    """Return the scope of an outbox's resume tokens."""
    return ("outbox log", entity, viewer, view)


async def feed_items(
    engine: Engine, query: FeedQuery, stored: Sequence[tuple[int, bytes]], *, just_read: bool
) -> dict[int, bytes]:
    """Return the serialised FeedItems, with their routes, of activities in a user's feed, by id.

    ``stored`` has ids and frames. ``just_read`` says that the ids were read from the feed, not from
    a log: if an activity has one route only, the user then still follows it. Activities that the
    viewer may not see are left out. So are activities that no route brings any more because the
    user has unfollowed their source.
    """
    user = query.user
    visible = await engine.viewers.activities(query.viewer, stored)
    possible_routes = {
        activity_id: convert.routes(Activity.FromString(wire.body(frame)))
        for activity_id, frame in visible
        if not just_read or wire.has_to(frame)
    }
    if not possible_routes:
        return {activity_id: wire.feed_item(activity_id, frame) for activity_id, frame in visible}
    sources = {source for routes in possible_routes.values() for source in routes} - {user}
    followed = await engine.edges.followed_among(user, sorted(sources)) | {user}
    items = {}
    for activity_id, frame in visible:
        if activity_id not in possible_routes:
            items[activity_id] = wire.feed_item(activity_id, frame)
        elif via := followed.intersection(possible_routes[activity_id]):
            routes = sorted(via, key=str.encode)
            items[activity_id] = wire.feed_item_via(activity_id, frame, routes)
    return items


async def feed_page(engine: Engine, tokens: Tokens, query: FeedQuery, page: Page) -> bytes:
    """Return a serialised FeedPage."""
    older, newer = convert.page_tokens(page, tokens, *query.page_scope)
    page_without_items = FeedPage(
        next_page_token=older,
        newer_page_token=newer,
        resume_token=tokens.seal_log_position(page.log_tail, *query.resume_scope),
        end=convert.PAGE_ENDS[page.end],
        incomplete_below=str(page.incomplete_below) if page.incomplete_below else None,
    )
    items = await feed_items(engine, query, page.items, just_read=True)
    fields = [wire.field(wire.FIELD_1, item) for item in items.values()]
    return b"".join((*fields, page_without_items.SerializeToString()))
