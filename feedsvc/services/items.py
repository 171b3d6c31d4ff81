"""What the services that answer with feed items have in common."""

from collections.abc import Iterable
from typing import Any

from activityfeed.v1.feed_pb2 import FeedPage

from feedsvc import convert
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


async def add_items(
    engine: Engine,
    user: str,
    found: Iterable[tuple[int, bytes]],
    items: Any,
    *,
    just_read: bool,
) -> None:
    """Adds activities of a user's feed to repeated items, in the order given, with their routes.

    In place, because to copy messages takes longer than to parse them. ``just_read``: the ids were
    read from the feed, not from a log, so that the only route of an activity is followed. Else what
    no route brings any more, because its source was unfollowed meanwhile, is left out.
    """
    unsure: list[tuple[int, list[str]]] = []
    for number, (activity_id, body) in enumerate(found, len(items)):
        item = items.add()
        activity = convert.filled(item.activity, activity_id, body)
        if just_read and not activity.to:
            item.via.append(activity.actor)
        else:
            unsure.append((number, convert.routes(activity)))
    if not unsure:
        return
    sources = {source for _, routes in unsure for source in routes} - {user}
    followed = await engine.edges.followed_among(user, sorted(sources))
    for number, routes in reversed(unsure):
        if via := [one for one in routes if one == user or one in followed]:
            items[number].via.extend(sorted(via, key=str.encode))
        else:
            del items[number]
