"""AdminService: check, call the core, convert."""

from typing import Any

from activityfeed.v1 import admin_service_pb2 as pb
from activityfeed.v1.admin_service_pb2_grpc import AdminServiceServicer
from google.protobuf.duration_pb2 import Duration

from feedsvc.core.engine import Engine

_STATES = {
    "cold": pb.FEED_STATE_COLD,
    "building": pb.FEED_STATE_BUILDING,
    "warm": pb.FEED_STATE_WARM,
}
_KINDS = {
    "missing": pb.FeedDifference.KIND_MISSING,
    "extra": pb.FeedDifference.KIND_EXTRA,
    "misplaced": pb.FeedDifference.KIND_MISPLACED,
}


class AdminService(AdminServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._feeds = engine.feeds

    async def VerifyFeed(
        self, request: pb.VerifyFeedRequest, context: Any
    ) -> pb.VerifyFeedResponse:
        found = await self._feeds.verify(request.user)
        return pb.VerifyFeedResponse(
            state=_STATES[found.state],
            compared=found.compared,
            differences=[
                pb.FeedDifference(kind=_KINDS[one.kind], activity_id=str(one.id))
                for one in found.differences
            ],
        )

    async def RebuildFeed(
        self, request: pb.RebuildFeedRequest, context: Any
    ) -> pb.RebuildFeedResponse:
        entries = await self._feeds.rebuild(request.user)
        if entries < 0:
            return pb.RebuildFeedResponse(state=pb.FEED_STATE_COLD)
        return pb.RebuildFeedResponse(state=pb.FEED_STATE_WARM, entries=entries)

    async def GetFeedStats(
        self, request: pb.GetFeedStatsRequest, context: Any
    ) -> pb.GetFeedStatsResponse:
        stats = await self._feeds.stats(request.user)
        return pb.GetFeedStatsResponse(
            state=_STATES[stats.state],
            entries=stats.entries,
            floor=str(stats.floor or ""),
            bytes=stats.bytes,
            expires_in=Duration(
                seconds=stats.expires_ms // 1000, nanos=stats.expires_ms % 1000 * 1_000_000
            ),
            following=stats.following,
            pulled=stats.pulled,
            live=stats.live,
        )
