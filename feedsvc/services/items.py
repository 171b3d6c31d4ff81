"""What the services that answer with feed items have in common."""

from collections.abc import Iterable
from typing import Any

from feedsvc import convert
from feedsvc.core.engine import Engine


def resume_bound(user: str, viewer: str) -> tuple[str, ...]:
    """What a resume token is bound to."""
    return ("log", user, viewer)


async def add_items(
    engine: Engine,
    user: str,
    found: Iterable[tuple[int, bytes]],
    items: Any,
    *,
    just_read: bool,
) -> None:
    """Adds activities of a user's feed to repeated items, in the order given, with their routes.

    ``just_read``: the ids were read from the feed, not from a log, so that the one route of an
    activity that has only one is followed. Else what no route brings any more, because its source
    was unfollowed meanwhile, is left out.
    """
    routes = [convert.routes(convert.add_item(items, *one)) for one in found]
    unsure = {one for some in routes if len(some) > 1 or not just_read for one in some} - {user}
    followed = await engine.edges.followed_among(user, sorted(unsure))
    for number in reversed(range(len(routes))):
        via = routes[number]
        if len(via) > 1 or not just_read:
            via = sorted((one for one in via if one == user or one in followed), key=str.encode)
        if via:
            items[number].via.extend(via)
        else:
            del items[number]
