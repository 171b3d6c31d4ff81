"""What the services that answer with feed items have in common."""

from collections.abc import Iterable

from activityfeed.v1.feed_pb2 import FeedItem

from feedsvc import convert
from feedsvc.core.engine import Engine


def resume_bound(user: str, viewer: str) -> tuple[str, ...]:
    """What a resume token is bound to."""
    return ("log", user, viewer)


async def feed_items(
    engine: Engine, user: str, found: Iterable[tuple[int, bytes]]
) -> dict[int, FeedItem]:
    """The items of a user's feed by activity id, in the order given, with their routes.

    What no route brings any more, because its source was unfollowed meanwhile, is left out.
    """
    activities = [convert.stored_activity(*one) for one in found]
    sources = {one for activity in activities for one in convert.routes(activity)} - {user}
    followed = await engine.edges.followed_among(user, sorted(sources))
    items = (convert.feed_item(activity, user, followed) for activity in activities)
    return {int(item.activity.id): item for item in items if item.via}
