"""AdminService: checks requests, calls the core, and converts its answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from activityfeed.admin.v1 import admin_service_pb2 as pb
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceServicer
from google.rpc.status_pb2 import Status

from feedsvc import convert, validation
from feedsvc.contract_limits import DEFAULT_PAGE_DEAD_LETTERS, MAX_PAGE_DEAD_LETTERS
from feedsvc.core.engine import Engine
from feedsvc.core.store_facts import Persistence, StoreFacts
from feedsvc.errors import DeadLetterNotFound
from feedsvc.failed_calls import Call, FailedEntries
from feedsvc.paging import clamp_page_size, read_page
from feedsvc.server_status import VERSION, ServerStatus
from feedsvc.tokens import Tokens

_FEED_STATES = {
    "cold": pb.FEED_STATE_COLD,
    "building": pb.FEED_STATE_BUILDING,
    "warm": pb.FEED_STATE_WARM,
}
#: Conditions of the store, by their names.
_STORE_CONDITIONS = {
    "READY": pb.STORE_CONDITION_READY,
    "SLOW": pb.STORE_CONDITION_SLOW,
    "FULL": pb.STORE_CONDITION_FULL,
    "READ_ONLY": pb.STORE_CONDITION_READ_ONLY,
    "LOADING": pb.STORE_CONDITION_LOADING,
    "REPLICA": pb.STORE_CONDITION_REPLICA,
    "FOREIGN": pb.STORE_CONDITION_FOREIGN,
    "GONE": pb.STORE_CONDITION_GONE,
}
_PERSISTENCE = {
    Persistence.SYNCED_ALWAYS: pb.STORE_PERSISTENCE_SYNCED_ALWAYS,
    Persistence.SYNCED_EVERY_SECOND: pb.STORE_PERSISTENCE_SYNCED_EVERY_SECOND,
    Persistence.NOT_SYNCED: pb.STORE_PERSISTENCE_NOT_SYNCED,
    Persistence.APPEND_ONLY_FILE: pb.STORE_PERSISTENCE_APPEND_ONLY_FILE,
    Persistence.SNAPSHOTS: pb.STORE_PERSISTENCE_SNAPSHOTS,
    Persistence.NONE: pb.STORE_PERSISTENCE_NONE,
}
_DIFFERENCE_KINDS = {
    "missing": pb.FEED_DIFFERENCE_KIND_MISSING,
    "extra": pb.FEED_DIFFERENCE_KIND_EXTRA,
    "misplaced": pb.FEED_DIFFERENCE_KIND_MISPLACED,
}


class AdminService(AdminServiceServicer):
    """Handlers of AdminService."""

    def __init__(self, engine: Engine, tokens: Tokens, status: ServerStatus) -> None:
        self._engine = engine
        self._status = status
        self._feeds = engine.feeds
        self._tokens = tokens

    async def VerifyFeed(
        self, request: pb.VerifyFeedRequest, context: Any
    ) -> pb.VerifyFeedResponse:
        verified = await self._feeds.verify(request.user)
        return pb.VerifyFeedResponse(
            state=_FEED_STATES[verified.state],
            compared_count=verified.compared,
            differences=[
                pb.FeedDifference(
                    kind=_DIFFERENCE_KINDS[difference.kind], activity_id=str(difference.id)
                )
                for difference in verified.differences
            ],
        )

    async def RebuildFeed(
        self, request: pb.RebuildFeedRequest, context: Any
    ) -> pb.RebuildFeedResponse:
        entry_count = await self._feeds.rebuild(request.user)
        if entry_count < 0:
            return pb.RebuildFeedResponse(state=pb.FEED_STATE_COLD)
        return pb.RebuildFeedResponse(state=pb.FEED_STATE_WARM, entry_count=entry_count)

    async def GetFeedStats(
        self, request: pb.GetFeedStatsRequest, context: Any
    ) -> pb.GetFeedStatsResponse:
        stats = await self._feeds.stats(request.user)
        return pb.GetFeedStatsResponse(
            state=_FEED_STATES[stats.state],
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

    async def GetServerStatus(
        self, request: pb.GetServerStatusRequest, context: Any
    ) -> pb.GetServerStatusResponse:
        status = self._status
        facts = await status.facts.facts()
        return pb.GetServerStatusResponse(
            host_name=status.host_name,
            version=VERSION,
            start_time=convert.timestamp_seconds(status.start_time),
            state=pb.SERVER_STATE_DRAINING if status.is_draining else pb.SERVER_STATE_SERVING,
            stream_count=status.streams,
            max_stream_count=status.config.max_streams,
            call_count=status.calls,
            max_call_count=status.config.max_calls,
            worker_count=status.config.workers,
            store=_store_status(status, facts),
        )

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Any
    ) -> pb.ListDeadLettersResponse:
        scope = ("dead-letters",)
        after = self._tokens.read_dead_letter(request.page_token, *scope)
        size = clamp_page_size(request.page_size, DEFAULT_PAGE_DEAD_LETTERS, MAX_PAGE_DEAD_LETTERS)

        async def read(limit: int) -> list[pb.DeadLetter]:
            letters = await self._engine.jobs.dead_letters(after, limit)
            return [convert.dead_letter(letter) for letter in letters]

        page = await read_page(read, size, pb.DeadLetter.ByteSize)
        next_page_token = ""
        if page.has_more:
            next_page_token = self._tokens.seal_dead_letter(page.entries[-1].id, *scope)
        return pb.ListDeadLettersResponse(
            dead_letters=page.entries, next_page_token=next_page_token
        )

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Any
    ) -> pb.ReplayDeadLettersResponse:
        statuses = await _for_each_letter(
            Call("ReplayDeadLetters", context), request.ids, self._engine.jobs.replay
        )
        return pb.ReplayDeadLettersResponse(
            results=[pb.ReplayDeadLetterResult(status=status) for status in statuses]
        )

    async def DiscardDeadLetters(
        self, request: pb.DiscardDeadLettersRequest, context: Any
    ) -> pb.DiscardDeadLettersResponse:
        statuses = await _for_each_letter(
            Call("DiscardDeadLetters", context), request.ids, self._engine.jobs.discard
        )
        return pb.DiscardDeadLettersResponse(
            results=[pb.DiscardDeadLetterResult(status=status) for status in statuses]
        )


def _store_status(status: ServerStatus, facts: StoreFacts | None) -> pb.StoreStatus:
    store = pb.StoreStatus(
        condition=_STORE_CONDITIONS[status.condition.name],
        condition_time=convert.timestamp_seconds(status.condition_time),
        embedded=status.is_embedded,
        shard_count=status.config.limits.shards,
    )
    if facts is not None:
        store.MergeFrom(
            pb.StoreStatus(
                read_time=convert.timestamp_seconds(facts.read_time),
                product=facts.product,
                version=facts.version,
                used_memory_bytes=facts.used_memory,
                max_memory_bytes=facts.max_memory,
                persistence=_PERSISTENCE[facts.persistence],
                eviction_policy=facts.eviction_policy,
                key_count=facts.keys,
                replica_count=facts.replicas,
                uptime=convert.duration_ms(facts.uptime_seconds * 1000),
            )
        )
    return store


async def _for_each_letter(
    call: Call, letter_ids: Iterable[str], act: Callable[[str], Awaitable[bool]]
) -> list[Status]:
    """Act on each dead letter, and return what became of each.

    ``act`` returns False if no dead letter has the id.
    """
    failed_entries = FailedEntries()

    async def act_on(letter_id: str) -> Status:
        try:
            validation.check_dead_letter_id(letter_id)
            if not await act(letter_id):
                raise DeadLetterNotFound(  # noqa: TRY301
                    "the dead letter was replayed or discarded, or never existed"
                )
        except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
            return failed_entries.status_of(error)
        return Status()

    statuses = await asyncio.gather(*map(act_on, letter_ids))
    call.log_failed_entries(failed_entries, len(statuses))
    return statuses
