"""FeedService: check, call the core, convert."""

from typing import Any

from activityfeed.v1 import feed_service_pb2 as pb
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceServicer

from feedsvc import convert
from feedsvc.core.engine import Engine
from feedsvc.services.items import add_items, resume_bound
from feedsvc.tokens import Tokens


class FeedService(FeedServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def GetFeed(self, request: pb.GetFeedRequest, context: Any) -> pb.GetFeedResponse:
        user, viewer = request.user, request.viewer
        bound = ("feed", user, viewer)
        cursor = self._tokens.read_page(request.page_token, *bound)
        if request.start_log:
            await self._engine.start_log(user)
        page = await self._engine.feeds.page(user, cursor, convert.page_size(request.page_size))
        older, newer = convert.page_tokens(page, self._tokens, *bound)
        response = pb.GetFeedResponse()
        answer = response.page
        answer.next_page_token = older
        answer.newer_page_token = newer
        answer.resume_token = self._tokens.log(page.log_tail, *resume_bound(user, viewer))
        answer.end = convert.PAGE_ENDS[page.end]
        answer.incomplete_below = str(page.incomplete_below or "")
        await add_items(self._engine, user, page.items, answer.items, just_read=True)
        return response
