"""FeedService: check, call the core, convert."""

from typing import Any

from activityfeed.v1 import feed_service_pb2 as pb
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceServicer

from feedsvc import convert, wire
from feedsvc.core.engine import Engine
from feedsvc.services.items import FeedQuery, feed_page
from feedsvc.tokens import Tokens


class FeedService(FeedServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def GetFeed(self, request: pb.GetFeedRequest, context: Any) -> Any:
        query = FeedQuery.of(request)
        cursor = self._tokens.read_page(request.page_token, *query.page_bound)
        if request.resumable:
            await self._engine.start_log(query.user)
        page = await self._engine.feeds.page(
            query.user, cursor, convert.page_size(request.page_size)
        )
        answer = await feed_page(self._engine, self._tokens, query, page)
        return wire.field(wire.FIRST, answer)
