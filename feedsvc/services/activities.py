"""ActivityService: checks requests, calls the core, and converts its answers."""

import asyncio
import time
from dataclasses import replace
from typing import Any, NamedTuple

from activityfeed.v1 import activity_service_pb2 as pb
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceServicer

from feedsvc import admission, batch_requests, convert, paging, validation, wire
from feedsvc.batch_requests import Batch, Slices
from feedsvc.contract_limits import BATCH_ENTRY_VIOLATIONS
from feedsvc.core import ids
from feedsvc.core.activities import Audience, NewActivity, Published, digest
from feedsvc.core.concurrency import run_concurrently
from feedsvc.core.engine import Engine
from feedsvc.errors import ActivityNotFound, FeedError, InvalidRequest, NotTheActor
from feedsvc.failed_calls import Call, FailedEntries
from feedsvc.services.feed_pages import outbox_resume_scope, view_name
from feedsvc.tokens import Tokens

#: Entries of a batch that the service publishes at a time.
ENTRIES_AT_ONCE = 32
#: Seconds that `wait_for_delivery` waits if the call has no deadline.
WAIT_SECONDS = 30.0
#: Part of the time until the call's deadline that the service keeps for its answer.
ANSWER_PART = 0.1
#: Seconds that the service keeps for its answer at least, and at most.
MIN_ANSWER_SECONDS, MAX_ANSWER_SECONDS = 0.05, 1.0


def delivery_deadline(context: Any) -> float:
    """Return when a call stops to wait for a delivery, by the monotonic clock.

    The answer then still reaches the caller before the call's deadline.
    """
    remaining: float | None = context.time_remaining()
    if remaining is None:
        return time.monotonic() + WAIT_SECONDS
    answer_seconds = min(max(ANSWER_PART * remaining, MIN_ANSWER_SECONDS), MAX_ANSWER_SECONDS)
    return time.monotonic() + remaining - answer_seconds


class _OpenDelivery(NamedTuple):
    """An entry of a batch whose caller waits for its delivery."""

    entry_index: int
    """The index of the entry in the batch."""
    new: NewActivity
    published: Published


def _serialised_result(**result: Any) -> bytes:
    return pb.PublishActivityResult(**result).SerializeToString()


class ActivityService(ActivityServiceServicer):
    """Handlers of ActivityService."""

    def __init__(self, engine: Engine, tokens: Tokens, slices: Slices) -> None:
        self._engine = engine
        self._tokens = tokens
        self._slices = slices

    async def PublishActivity(self, request: pb.PublishActivityRequest, context: Any) -> Any:
        deadline = delivery_deadline(context) if request.wait_for_delivery else 0.0
        new = convert.new_activity(request, self._engine.store.clock.now_ms())
        published = await self._engine.activities.publish(new, request.request_id)
        if request.wait_for_delivery:
            admission.release()
            published = await self._engine.activities.delivered(new, published, deadline)
        return await self._publish_response(new, published)

    async def _publish_response(self, new: NewActivity, published: Published) -> bytes:
        """Return a serialised PublishActivityResponse."""
        frame = new.frame
        if published.already:
            (stored,) = await self._engine.activities.frames([published.id])
            # If the activity has been deleted since, the request has its content, but not the time
            # when the service received the activity.
            frame = stored or wire.without_receive_time(frame)
        return convert.publish_response(published, frame)

    async def BatchPublishActivities(  # type: ignore[override]
        self, batch: Batch[pb.PublishActivityRequest], context: Any
    ) -> bytes:
        """Publish the entries, a few at a time, and begin them in order.

        Commands leave for the store in the order in which they are issued, so that the activities
        of the batch keep their order.
        """
        call, failed_entries = Call("BatchPublishActivities", context), FailedEntries()
        deadline = delivery_deadline(context)
        results = [b""] * len(batch.entries)
        open_deliveries: list[_OpenDelivery] = []
        indexes = iter(range(len(batch.entries)))

        async def publish_next() -> None:
            for index in indexes:
                try:
                    results[index] = await self._publish_entry(batch, index, open_deliveries)
                except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
                    status = failed_entries.status_of(error, BATCH_ENTRY_VIOLATIONS)
                    results[index] = _serialised_result(error=status)

        await run_concurrently(publish_next, ENTRIES_AT_ONCE)
        if open_deliveries:
            admission.release()
            await asyncio.gather(
                *(
                    self._wait_for_delivery(open_delivery, deadline, results)
                    for open_delivery in open_deliveries
                )
            )
        call.log_failed_entries(failed_entries, len(results))
        return batch_requests.join_results(results)

    async def _publish_entry(
        self,
        batch: Batch[pb.PublishActivityRequest],
        index: int,
        open_deliveries: list[_OpenDelivery],
    ) -> bytes:
        """Publish an entry and return its serialised result.

        Add the entry to ``open_deliveries`` if its caller waits for its delivery.
        """
        await self._slices.turn()
        request = validation.decode(batch.entry.FromString, batch.entries[index])
        validation.check(request)
        new = convert.new_activity(request, self._engine.store.clock.now_ms())
        published = await self._engine.activities.publish(new, request.request_id)
        if request.wait_for_delivery and published.delivery.state == "queued":
            open_deliveries.append(_OpenDelivery(index, replace(new, frame=b""), published))
        return wire.field(wire.FIELD_1, await self._publish_response(new, published))

    async def _wait_for_delivery(
        self, open_delivery: _OpenDelivery, deadline: float, results: list[bytes]
    ) -> None:
        """Wait until an entry's delivery ends, and add its end to the entry's result."""
        published = await self._engine.activities.delivered(
            open_delivery.new, open_delivery.published, deadline
        )
        update = pb.PublishActivityResponse(delivery=convert.delivery(published.delivery))
        # Serialised messages that stand one after the other parse as one message, in which the last
        # value of a field counts.
        results[open_delivery.entry_index] += _serialised_result(response=update)

    async def GetDelivery(
        self, request: pb.GetDeliveryRequest, context: Any
    ) -> pb.GetDeliveryResponse:
        activity_id, frame = await self._visible_activity(request.id, request.viewer)
        activity = convert.stored_activity(activity_id, frame)
        delivery = await self._engine.activities.delivery(
            activity_id,
            activity.actor,
            tuple(activity.to),
            followers=activity.audience != AUDIENCE_TO_ONLY,
        )
        return pb.GetDeliveryResponse(delivery=convert.delivery(delivery))

    async def GetActivity(
        self, request: pb.GetActivityRequest, context: Any
    ) -> pb.GetActivityResponse:
        activity_id, frame = await self._visible_activity(request.id, request.viewer)
        return pb.GetActivityResponse(activity=convert.viewed_activity(activity_id, frame))

    async def _visible_activity(self, id_text: str, viewer: str) -> tuple[int, bytes]:
        """Return the id and the frame of a stored activity.

        Raise ActivityNotFound if the activity is not stored, or if the viewer may not see it.
        """
        activity_id = int(id_text)
        (frame,) = await self._engine.activities.frames([activity_id])
        if frame is not None:
            for stored in await self._engine.viewers.activities(viewer, [(activity_id, frame)]):
                return stored
        raise ActivityNotFound(activity_id)

    async def BatchGetActivities(
        self, request: pb.BatchGetActivitiesRequest, context: Any
    ) -> pb.BatchGetActivitiesResponse:
        call, failed_entries = Call("BatchGetActivities", context), FailedEntries()
        parsed_ids = [ids.parse(id_text) for id_text in request.ids]
        valid_ids = [activity_id for activity_id in parsed_ids if activity_id is not None]
        frames = zip(valid_ids, await self._engine.activities.frames(valid_ids), strict=True)
        stored = [(activity_id, frame) for activity_id, frame in frames if frame is not None]
        visible = dict(await self._engine.viewers.activities(request.viewer, stored))
        results = []
        for id_text, activity_id in zip(request.ids, parsed_ids, strict=True):
            if activity_id is not None and activity_id in visible:
                activity = convert.viewed_activity(activity_id, visible[activity_id])
                results.append(pb.GetActivityResult(activity=activity))
                continue
            error: FeedError = ActivityNotFound(id_text)
            try:
                validation.check(pb.GetActivityRequest(id=id_text))
            except InvalidRequest as invalid:
                error = invalid
            results.append(pb.GetActivityResult(error=failed_entries.status_of(error)))
        call.log_failed_entries(failed_entries, len(results))
        return pb.BatchGetActivitiesResponse(results=results)

    async def DeleteActivity(
        self, request: pb.DeleteActivityRequest, context: Any
    ) -> pb.DeleteActivityResponse:
        activity_id = int(request.id)
        (frame,) = await self._engine.activities.frames([activity_id])
        audience = Audience(request.actor)
        if frame is not None:
            activity = convert.stored_activity(activity_id, frame)
            if activity.actor != request.actor:
                raise NotTheActor(
                    "only the actor of an activity may delete it, and `actor` names another entity"
                )
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
        scope = ("outbox", entity, viewer, str(request.own_only), view)
        cursor = self._tokens.read_page(request.page_token, *scope)
        log = self._engine.logs.of_outbox(entity)

        def is_wanted(frame: bytes) -> bool:
            return not request.own_only or wire.actor(frame) == entity

        if request.resumable:
            await self._engine.logs.open(log)
        size = paging.clamp_page_size(request.page_size)
        page = await self._engine.feeds.outbox_page(entity, log, cursor, size, is_wanted)
        older, newer = convert.page_tokens(page, self._tokens, *scope)
        visible = await self._engine.viewers.activities(viewer, page.items)
        resume_scope = outbox_resume_scope(entity, viewer, view)
        return pb.ListActivitiesResponse(
            activities=[
                convert.viewed_activity(activity_id, frame) for activity_id, frame in visible
            ],
            next_page_token=older,
            newer_page_token=newer,
            end=convert.PAGE_ENDS[page.end],
            resume_token=self._tokens.seal_log_position(page.log_tail, *resume_scope),
        )
