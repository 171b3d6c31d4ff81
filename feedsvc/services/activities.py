"""ActivityService: check, call the core, convert."""

import asyncio
from typing import Any

from activityfeed.v1 import activity_service_pb2 as pb
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceServicer

from feedsvc import convert, validate
from feedsvc.core import ids
from feedsvc.core.activities import digest
from feedsvc.core.engine import Engine
from feedsvc.errors import ActivityNotFound, FeedError, InvalidRequest, NotTheActor
from feedsvc.status import status_of
from feedsvc.tokens import Tokens


class ActivityService(ActivityServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def PublishActivity(
        self, request: pb.PublishActivityRequest, context: Any
    ) -> pb.PublishActivityResponse:
        return await self._publish(request)

    async def _publish(self, request: pb.PublishActivityRequest) -> pb.PublishActivityResponse:
        new, activity = convert.new_activity(request)
        published = await self._engine.activities.publish(new, request.request_id)
        if published.already:
            (body,) = await self._engine.activities.bodies([published.id])
            if body is not None:  # else it was deleted since: what was sent says what it was
                activity = Activity.FromString(body)
        return convert.publish_response(published, convert.identified(published.id, activity))

    async def BatchPublishActivities(
        self, request: pb.BatchPublishActivitiesRequest, context: Any
    ) -> pb.BatchPublishActivitiesResponse:
        async def one(entry: pb.PublishActivityRequest) -> pb.PublishActivityResult:
            try:
                validate.check(entry)
                return pb.PublishActivityResult(response=await self._publish(entry))
            except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
                return pb.PublishActivityResult(error=status_of(error))

        # Begun in order, and commands leave in the order in which they are issued.
        results = await asyncio.gather(*(one(entry) for entry in request.requests))
        return pb.BatchPublishActivitiesResponse(results=results)

    async def GetActivity(
        self, request: pb.GetActivityRequest, context: Any
    ) -> pb.GetActivityResponse:
        activity_id = int(request.id)
        (body,) = await self._engine.activities.bodies([activity_id])
        if body is None:
            raise ActivityNotFound("there is no such activity")
        return pb.GetActivityResponse(activity=convert.stored_activity(activity_id, body))

    async def BatchGetActivities(
        self, request: pb.BatchGetActivitiesRequest, context: Any
    ) -> pb.BatchGetActivitiesResponse:
        wanted = [ids.parse(text) for text in request.ids]
        known = [one for one in wanted if one is not None]
        bodies = dict(zip(known, await self._engine.activities.bodies(known), strict=True))
        results = []
        for text, activity_id in zip(request.ids, wanted, strict=True):
            body = None if activity_id is None else bodies[activity_id]
            if activity_id is not None and body is not None:
                activity = convert.stored_activity(activity_id, body)
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
        (body,) = await self._engine.activities.bodies([activity_id])
        to: list[str] = []
        if body is not None:
            activity = Activity.FromString(body)
            if activity.actor != request.actor:
                raise NotTheActor("only its actor may delete an activity")
            to = list(activity.to)
        await self._engine.activities.delete(
            activity_id,
            request.actor,
            to,
            digest(b"delete", request.id.encode()),
            request.request_id,
        )
        return pb.DeleteActivityResponse()

    async def ListActivities(
        self, request: pb.ListActivitiesRequest, context: Any
    ) -> pb.ListActivitiesResponse:
        bound = ("outbox", request.entity, request.viewer, str(request.own_only))
        cursor = self._tokens.read_page(request.page_token, *bound)

        def keep(body: bytes) -> bool:
            return not request.own_only or Activity.FromString(body).actor == request.entity

        page = await self._engine.feeds.outbox_page(
            request.entity, cursor, convert.page_size(request.page_size), keep
        )
        older, newer = convert.page_tokens(page, self._tokens, *bound)
        return pb.ListActivitiesResponse(
            activities=[convert.stored_activity(*item) for item in page.items],
            next_page_token=older,
            newer_page_token=newer,
            end=convert.PAGE_ENDS[page.end],
        )
