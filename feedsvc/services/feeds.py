"""FeedService: check, call the core, convert."""

from typing import Any

from activityfeed.v1 import feed_service_pb2 as pb
from activityfeed.v1.feed_pb2 import FeedPage
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceServicer

from feedsvc import convert, wire
from feedsvc.core.engine import Engine
from feedsvc.services.items import fill_tokens, items
from feedsvc.tokens import Tokens


class FeedService(FeedServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def GetFeed(self, request: pb.GetFeedRequest, context: Any) -> Any:
        user, viewer = request.user, request.viewer
        cursor = self._tokens.read_page(request.page_token, "feed", user, viewer)
        if request.start_log:
            await self._engine.start_log(user)
        page = await self._engine.feeds.page(user, cursor, convert.page_size(request.page_size))
        rest = FeedPage()
        fill_tokens(self._tokens, user, viewer, page, rest)
        found = await items(self._engine, user, page.items, just_read=True)
        return wire.field(wire.FIRST, found + rest.SerializeToString())
