"""AdminService: check, call the core, convert."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from activityfeed.admin.v1 import admin_service_pb2 as pb
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceServicer
from google.rpc.status_pb2 import Status

from feedsvc import convert, validate
from feedsvc.bounds import fitting
from feedsvc.core.engine import Engine
from feedsvc.errors import DeadLetterNotFound
from feedsvc.status import status_of
from feedsvc.tokens import Tokens

_STATES = {
    "cold": pb.FEED_STATE_COLD,
    "building": pb.FEED_STATE_BUILDING,
    "warm": pb.FEED_STATE_WARM,
}
_KINDS = {
    "missing": pb.FEED_DIFFERENCE_KIND_MISSING,
    "extra": pb.FEED_DIFFERENCE_KIND_EXTRA,
    "misplaced": pb.FEED_DIFFERENCE_KIND_MISPLACED,
}


class AdminService(AdminServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._feeds = engine.feeds
        self._tokens = tokens

    async def VerifyFeed(
        self, request: pb.VerifyFeedRequest, context: Any
    ) -> pb.VerifyFeedResponse:
        found = await self._feeds.verify(request.user)
        return pb.VerifyFeedResponse(
            state=_STATES[found.state],
            compared_count=found.compared,
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
        return pb.RebuildFeedResponse(state=pb.FEED_STATE_WARM, entry_count=entries)

    async def GetFeedStats(
        self, request: pb.GetFeedStatsRequest, context: Any
    ) -> pb.GetFeedStatsResponse:
        stats = await self._feeds.stats(request.user)
        return pb.GetFeedStatsResponse(
            state=_STATES[stats.state],
            entry_count=stats.entries,
            floor=str(stats.floor) if stats.floor else None,
            stored_bytes=stats.bytes,
            expires_in=convert.duration_ms(stats.expires_ms),
            following_count=stats.following,
            pulled_count=stats.pulled,
            live=stats.live,
        )

    async def GetFanoutStatus(
        self, request: pb.GetFanoutStatusRequest, context: Any
    ) -> pb.GetFanoutStatusResponse:
        status = await self._engine.jobs.status()
        return pb.GetFanoutStatusResponse(
            open_count=status.waiting + status.running,
            waiting_count=status.waiting,
            running_count=status.running,
            inline_count=status.inline,
            lag=convert.duration_ms(status.lag_ms),
            oldest=convert.fanout_job(status.oldest) if status.oldest else None,
            followers_per_second=status.rate,
            dead_letter_count=status.dead,
        )

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Any
    ) -> pb.ListDeadLettersResponse:
        bound = ("dead-letters",)
        after = self._tokens.read_letter(request.page_token, *bound)
        size = convert.page_size(request.page_size, convert.DEFAULT_LETTERS, convert.MOST_LETTERS)
        found = await self._engine.jobs.dead_letters(after, size + 1)
        letters = [convert.dead_letter(one) for one in found]
        most = min(size, fitting(one.ByteSize() for one in letters))
        more = len(found) > most
        found = found[:most]
        return pb.ListDeadLettersResponse(
            dead_letters=letters[:most],
            next_page_token=self._tokens.letter(found[-1].id, *bound) if more else "",
        )

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Any
    ) -> pb.ReplayDeadLettersResponse:
        statuses = await _each_letter(request.ids, self._engine.jobs.replay)
        return pb.ReplayDeadLettersResponse(
            results=[pb.ReplayDeadLetterResult(status=status) for status in statuses]
        )

    async def DiscardDeadLetters(
        self, request: pb.DiscardDeadLettersRequest, context: Any
    ) -> pb.DiscardDeadLettersResponse:
        statuses = await _each_letter(request.ids, self._engine.jobs.discard)
        return pb.DiscardDeadLettersResponse(
            results=[pb.DiscardDeadLetterResult(status=status) for status in statuses]
        )


async def _each_letter(
    letter_ids: Iterable[str], work: Callable[[str], Awaitable[bool]]
) -> list[Status]:
    """Do something with each dead letter; ``work`` returns False if there is none."""

    async def status(letter_id: str) -> Status:
        try:
            validate.check_letter(letter_id)
            if not await work(letter_id):
                raise DeadLetterNotFound("there is no such dead letter")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
            return status_of(error)
        return Status()

    return await asyncio.gather(*map(status, letter_ids))
