"""FeedService: checks requests, calls the core, and converts its answers."""

from typing import Any

from activityfeed.v1 import feed_service_pb2 as pb
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceServicer

from feedsvc import paging, wire
from feedsvc.core.engine import Engine
from feedsvc.services.feed_pages import FeedQuery, feed_page
from feedsvc.tokens import Tokens


class FeedService(FeedServiceServicer):
    """Handlers of FeedService."""

    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def GetFeed(self, request: pb.GetFeedRequest, context: Any) -> Any:
        query = FeedQuery.of(request)
        cursor = self._tokens.read_page(request.page_token, *query.page_scope)
        if request.resumable:
            await self._engine.start_log(query.user)
        size = paging.clamp_page_size(request.page_size)
        page = await self._engine.feeds.page(query.user, cursor, size)
        serialised = await feed_page(self._engine, self._tokens, query, page)
        return wire.field(wire.FIELD_1, serialised)
