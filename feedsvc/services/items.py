"""What the services that answer with feed items have in common."""

from collections.abc import Sequence
from typing import Any

from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.feed_pb2 import FeedPage

from feedsvc import convert, wire
from feedsvc.core.engine import Engine
from feedsvc.core.feed import Page
from feedsvc.tokens import Tokens


def resume_bound(user: str, viewer: str) -> tuple[str, ...]:
    """What a resume token is bound to."""
    return ("log", user, viewer)


def fill_tokens(tokens: Tokens, user: str, viewer: str, page: Page, answer: FeedPage) -> None:
    """Fills in all of a page of a user's feed but its items."""
    older, newer = convert.page_tokens(page, tokens, "feed", user, viewer)
    answer.next_page_token = older
    answer.newer_page_token = newer
    answer.resume_token = tokens.log(page.log_tail, *resume_bound(user, viewer))
    answer.end = convert.PAGE_ENDS[page.end]
    answer.incomplete_below = str(page.incomplete_below or "")


async def items(
    engine: Engine, user: str, found: Sequence[tuple[int, bytes]], *, just_read: bool
) -> bytes:
    """Activities of a user's feed with their routes: ``items`` of a page, serialised.

    ``just_read``: the ids were read from the feed, not from a log, so that the only route of an
    activity is followed. Else what no route brings any more, because its source was unfollowed
    meanwhile, is left out.
    """
    unsure = {
        activity_id: convert.routes(Activity.FromString(wire.body(frame)))
        for activity_id, frame in found
        if not just_read or wire.has_to(frame)
    }
    if not unsure:
        return b"".join([wire.feed_item(activity_id, frame) for activity_id, frame in found])
    sources = {source for routes in unsure.values() for source in routes} - {user}
    followed = await engine.edges.followed_among(user, sorted(sources)) | {user}
    pieces = []
    for activity_id, frame in found:
        if activity_id not in unsure:
            pieces.append(wire.feed_item(activity_id, frame))
        elif via := followed.intersection(unsure[activity_id]):
            pieces.append(wire.feed_item_via(activity_id, frame, sorted(via, key=str.encode)))
    return b"".join(pieces)


async def add_items(
    engine: Engine,
    user: str,
    found: Sequence[tuple[int, bytes]],
    page_items: Any,
    *,
    just_read: bool,
) -> None:
    """The same, added to the repeated ``items`` of a message."""
    page = FeedPage.FromString(await items(engine, user, found, just_read=just_read))
    page_items.extend(page.items)
