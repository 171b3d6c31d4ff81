"""ActivityService: check, call the core, convert."""

import asyncio
import time
from dataclasses import replace
from typing import Any, NamedTuple

from activityfeed.v1 import activity_service_pb2 as pb
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceServicer

from feedsvc import admission, batches, convert, validate, wire
from feedsvc.batches import Batch, Slices, in_turns
from feedsvc.bounds import VIOLATIONS
from feedsvc.core import ids
from feedsvc.core.activities import Audience, NewActivity, Published, digest
from feedsvc.core.engine import Engine
from feedsvc.errors import ActivityNotFound, FeedError, InvalidRequest, NotTheActor
from feedsvc.services.items import outbox_bound, view_name
from feedsvc.status import status_of
from feedsvc.tokens import Tokens

#: Entries of a batch that are being published at a time.
ENTRIES_AT_ONCE = 32
#: Seconds that `wait_for_delivery` waits if the call has no deadline.
WAIT_SECONDS = 30.0
#: Of the time until the deadline, what is kept for answering: this part of it, at least, at most.
MARGIN, LEAST_MARGIN, MOST_MARGIN = 0.1, 0.05, 1.0


def wait_until(context: Any) -> float:
    """Until when, by the monotonic clock, a call may wait for what it need not have."""
    left: float | None = context.time_remaining()
    if left is None:
        return time.monotonic() + WAIT_SECONDS
    return time.monotonic() + left - min(max(MARGIN * left, LEAST_MARGIN), MOST_MARGIN)


class _Waiting(NamedTuple):
    """An entry of a batch whose delivery has not ended."""

    number: int
    new: NewActivity
    published: Published


def _result(**result: Any) -> bytes:
    return pb.PublishActivityResult(**result).SerializeToString()


class ActivityService(ActivityServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens, slices: Slices) -> None:
        self._engine = engine
        self._tokens = tokens
        self._slices = slices

    async def PublishActivity(self, request: pb.PublishActivityRequest, context: Any) -> Any:
        until = wait_until(context) if request.wait_for_delivery else 0.0
        new = convert.new_activity(request, self._engine.store.clock.now_ms())
        published = await self._engine.activities.publish(new, request.request_id)
        if request.wait_for_delivery:
            admission.rest()
            published = await self._engine.activities.delivered(new, published, until)
        return await self._response(new, published)

    async def _response(self, new: NewActivity, published: Published) -> bytes:
        """A PublishActivityResponse, serialised."""
        frame = new.frame
        if published.already:
            (stored,) = await self._engine.activities.frames([published.id])
            # If it was deleted since, what was sent says what it was.
            frame = stored or wire.without_receipt(frame)
        return convert.publish_response(published, frame)

    async def BatchPublishActivities(  # type: ignore[override]
        self, batch: Batch[pb.PublishActivityRequest], context: Any
    ) -> bytes:
        """Publish entry by entry: a few at a time, begun in order.

        Commands leave in the order in which they are issued, and so activities keep theirs.
        """
        until = wait_until(context)
        results = [b""] * len(batch.entries)
        waiting: list[_Waiting] = []
        numbers = iter(range(len(batch.entries)))

        async def publish_next() -> None:
            for number in numbers:
                try:
                    results[number] = await self._publish_entry(batch, number, waiting)
                except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
                    results[number] = _result(error=status_of(error, VIOLATIONS))

        await in_turns(publish_next, ENTRIES_AT_ONCE)
        if waiting:
            admission.rest()
            await asyncio.gather(*(self._wait(one, until, results) for one in waiting))
        return batches.joined(results)

    async def _publish_entry(
        self, batch: Batch[pb.PublishActivityRequest], number: int, waiting: list["_Waiting"]
    ) -> bytes:
        await self._slices.turn()
        request = validate.decoded(batch.entry.FromString, batch.entries[number])
        validate.check(request)
        new = convert.new_activity(request, self._engine.store.clock.now_ms())
        published = await self._engine.activities.publish(new, request.request_id)
        if request.wait_for_delivery and published.delivery.state == "queued":
            waiting.append(_Waiting(number, replace(new, frame=b""), published))
        return wire.field(wire.FIRST, await self._response(new, published))

    async def _wait(self, entry: "_Waiting", until: float, results: list[bytes]) -> None:
        """Wait for an entry's delivery to end, and tell of it in its result."""
        found = await self._engine.activities.delivered(entry.new, entry.published, until)
        later = pb.PublishActivityResponse(delivery=convert.delivery(found.delivery))
        # Serialised messages that stand one after the other are one: what comes later counts.
        results[entry.number] += _result(response=later)

    async def GetDelivery(
        self, request: pb.GetDeliveryRequest, context: Any
    ) -> pb.GetDeliveryResponse:
        activity_id, frame = await self._seen(request.id, request.viewer)
        activity = convert.stored_activity(activity_id, frame)
        found = await self._engine.activities.delivery(
            activity_id,
            activity.actor,
            tuple(activity.to),
            followers=activity.audience != AUDIENCE_TO_ONLY,
        )
        return pb.GetDeliveryResponse(delivery=convert.delivery(found))

    async def GetActivity(
        self, request: pb.GetActivityRequest, context: Any
    ) -> pb.GetActivityResponse:
        stored = await self._seen(request.id, request.viewer)
        return pb.GetActivityResponse(activity=convert.viewed_activity(*stored))

    async def _seen(self, text: str, viewer: str) -> tuple[int, bytes]:
        """An activity that is there and that the viewer may see. Raises ActivityNotFound."""
        activity_id = int(text)
        (frame,) = await self._engine.activities.frames([activity_id])
        if frame is not None:
            for stored in await self._engine.viewers.activities(viewer, [(activity_id, frame)]):
                return stored
        raise ActivityNotFound("there is no such activity")

    async def BatchGetActivities(
        self, request: pb.BatchGetActivitiesRequest, context: Any
    ) -> pb.BatchGetActivitiesResponse:
        wanted = [ids.parse(text) for text in request.ids]
        known = [one for one in wanted if one is not None]
        frames = zip(known, await self._engine.activities.frames(known), strict=True)
        stored = [(one, frame) for one, frame in frames if frame is not None]
        seen = dict(await self._engine.viewers.activities(request.viewer, stored))
        results = []
        for text, activity_id in zip(request.ids, wanted, strict=True):
            if activity_id is not None and activity_id in seen:
                activity = convert.viewed_activity(activity_id, seen[activity_id])
                results.append(pb.GetActivityResult(activity=activity))
                continue
            error: FeedError = ActivityNotFound("there is no such activity")
            try:
                validate.check(pb.GetActivityRequest(id=text))
            except InvalidRequest as invalid:
                error = invalid
            results.append(pb.GetActivityResult(error=status_of(error)))
        return pb.BatchGetActivitiesResponse(results=results)

    async def DeleteActivity(
        self, request: pb.DeleteActivityRequest, context: Any
    ) -> pb.DeleteActivityResponse:
        activity_id = int(request.id)
        (body,) = await self._engine.activities.frames([activity_id])
        audience = Audience(request.actor)
        if body is not None:
            activity = convert.stored_activity(activity_id, body)
            if activity.actor != request.actor:
                raise NotTheActor("only its actor may delete an activity")
            followers = activity.audience != AUDIENCE_TO_ONLY
            audience = Audience(request.actor, tuple(activity.to), followers)
        await self._engine.activities.delete(
            activity_id,
            audience,
            digest(b"delete", request.id.encode()),
            request.request_id,
        )
        return pb.DeleteActivityResponse()

    async def ListActivities(
        self, request: pb.ListActivitiesRequest, context: Any
    ) -> pb.ListActivitiesResponse:
        entity, viewer, view = request.entity, request.viewer, view_name(request.view)
        bound = ("outbox", entity, viewer, str(request.own_only), view)
        cursor = self._tokens.read_page(request.page_token, *bound)
        log = self._engine.logs.of_outbox(entity)

        def keep(body: bytes) -> bool:
            return not request.own_only or wire.actor(body) == entity

        if request.resumable:
            await self._engine.logs.open(log)
        page = await self._engine.feeds.outbox_page(
            entity, log, cursor, convert.page_size(request.page_size), keep
        )
        older, newer = convert.page_tokens(page, self._tokens, *bound)
        return pb.ListActivitiesResponse(
            activities=[
                convert.viewed_activity(*stored)
                for stored in await self._engine.viewers.activities(viewer, page.items)
            ],
            next_page_token=older,
            newer_page_token=newer,
            end=convert.PAGE_ENDS[page.end],
            resume_token=self._tokens.log(page.log_tail, *outbox_bound(entity, viewer, view)),
        )
