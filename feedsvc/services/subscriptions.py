"""SubscriptionService: a stream is a reader of the user's live log."""

import asyncio
from typing import Any

from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.feed_pb2 import FeedItem, FeedPage
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceServicer

from feedsvc.core.engine import Engine
from feedsvc.core.live import Entry, LogLost
from feedsvc.errors import Draining
from feedsvc.services.items import add_items, resume_bound
from feedsvc.tokens import Tokens


def _event(entry: Entry, items: dict[int, FeedItem]) -> pb.FeedEvent | None:
    """The event that an entry of the log stands for; None if it has been overtaken."""
    match entry.kind:
        case "added":
            item = items.get(int(entry.what))
            return pb.FeedEvent(added=item) if item else None
        case "removed":
            return pb.FeedEvent(removed=pb.FeedEvent.Removed(activity_id=entry.what))
        case "followed" | "unfollowed":
            change = pb.FeedEvent.SourceChanged(
                entity=entry.what, following=entry.kind == "followed"
            )
            return pb.FeedEvent(source_changed=change)
        case _:
            return None


class SubscriptionService(SubscriptionServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens, checkpoint_seconds: float) -> None:
        self._engine = engine
        self._tokens = tokens
        self._checkpoint_seconds = checkpoint_seconds

    # A coroutine that writes, not a generator: the `finally` of a generator may run in another
    # task.
    async def SubscribeFeed(  # type: ignore[override]
        self, request: pb.SubscribeFeedRequest, context: Any
    ) -> None:
        user, live = request.user, self._engine.live
        bound = resume_bound(user, request.viewer)

        async def send(place: str, *events: pb.FeedEvent) -> None:
            token = self._tokens.log(place, *bound)
            await context.write(
                pb.SubscribeFeedResponse(user=user, resume_token=token, events=events)
            )

        with live.wake_ups(user) as woken:
            if request.resume_token:
                place = self._tokens.read_log(request.resume_token, *bound)
            else:
                place = await self._engine.start_log(user)
                await send(place, pb.FeedEvent(created=pb.FeedEvent.Created()))
            while True:
                if live.draining:
                    raise Draining("this server is stopping")
                woken.clear()  # before the read: what comes during it wakes us again
                try:
                    entries = await live.read(user, place)
                except LogLost:
                    place = await self._engine.start_log(user)
                    await send(place, pb.FeedEvent(reset=pb.FeedEvent.Reset()))
                    continue
                if entries:
                    events = await self._events(user, entries)
                    place = entries[-1].place
                    if events:
                        await send(place, *events)
                    continue
                try:
                    async with asyncio.timeout(self._checkpoint_seconds):
                        await woken.wait()
                except TimeoutError:
                    await send(place)

    async def _events(self, user: str, entries: list[Entry]) -> list[pb.FeedEvent]:
        # Bodies are read now, not when the entry was written: what is gone by now is not told.
        added = [int(entry.what) for entry in entries if entry.kind == "added"]
        bodies = await self._engine.activities.bodies(added)
        there = [(one, body) for one, body in zip(added, bodies, strict=True) if body is not None]
        page = FeedPage()
        await add_items(self._engine, user, there, page.items, just_read=False)
        items = {int(item.activity.id): item for item in page.items}
        events = (_event(entry, items) for entry in entries)
        return [event for event in events if event is not None]
