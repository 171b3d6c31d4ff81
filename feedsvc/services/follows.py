"""FollowService: checks requests, calls the core, and converts its answers."""

import asyncio
from collections.abc import Sequence
from typing import Any

from activityfeed.v1 import follow_service_pb2 as pb
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceServicer

from feedsvc import convert, validation
from feedsvc.batch_requests import Batch, Slices
from feedsvc.contract_limits import DEFAULT_PAGE_EDGES, MAX_PAGE_EDGES
from feedsvc.core.activities import digest
from feedsvc.core.edges import Edge, EdgeCursor, NewEdge
from feedsvc.core.engine import Engine
from feedsvc.errors import FeedError
from feedsvc.failed_calls import Call, FailedEntries
from feedsvc.paging import clamp_page_size, read_page
from feedsvc.tokens import Tokens

#: Entries of a batch that are decoded without a pause for other calls.
ENTRIES_A_SLICE = 50


def _edge(request: pb.FollowRequest | pb.UnfollowRequest) -> NewEdge:
    # The digest leaves out the follower, which the name of the request's record has.
    return NewEdge(
        request.follower,
        request.followee,
        request.request_id,
        digest(request.followee.encode()) if request.request_id else b"",
    )


def _page_size(requested: int) -> int:
    return clamp_page_size(requested, DEFAULT_PAGE_EDGES, MAX_PAGE_EDGES)


class FollowService(FollowServiceServicer):
    """Handlers of FollowService."""

    def __init__(self, engine: Engine, tokens: Tokens, slices: Slices) -> None:
        self._edges = engine.edges
        self._viewers = engine.viewers
        self._tokens = tokens
        self._slices = slices

    async def Follow(self, request: pb.FollowRequest, context: Any) -> pb.FollowResponse:
        (result,) = await self._edges.follow([_edge(request)])
        if isinstance(result, FeedError):
            raise result
        return pb.FollowResponse(edge=convert.follow_edge(result), already_following=result.already)

    async def Unfollow(self, request: pb.UnfollowRequest, context: Any) -> pb.UnfollowResponse:
        return pb.UnfollowResponse(was_following=await self._edges.unfollow(_edge(request)))

    async def BatchFollow(  # type: ignore[override]
        self, batch: Batch[pb.FollowRequest], context: Any
    ) -> bytes:
        call, failed_entries = Call("BatchFollow", context), FailedEntries()
        results: list[pb.FollowResult] = []
        new_edges: dict[int, NewEdge] = {}
        for index in range(len(batch.entries)):
            if index % ENTRIES_A_SLICE == 0:
                await self._slices.turn()
            results.append(pb.FollowResult())
            try:
                entry = validation.decode(batch.entry.FromString, batch.entries[index])
                validation.check(entry)
            except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
                results[index].error.CopyFrom(failed_entries.status_of(error))
            else:
                new_edges[index] = _edge(entry)
        outcomes = await self._edges.follow(list(new_edges.values()))
        for index, outcome in zip(new_edges, outcomes, strict=True):
            if isinstance(outcome, FeedError):
                results[index].error.CopyFrom(failed_entries.status_of(outcome))
            else:
                response = results[index].response
                response.edge.CopyFrom(convert.follow_edge(outcome))
                response.already_following = outcome.already
        call.log_failed_entries(failed_entries, len(results))
        return pb.BatchFollowResponse(results=results).SerializeToString()

    async def ListFollowers(
        self, request: pb.ListFollowersRequest, context: Any
    ) -> pb.ListFollowersResponse:
        scope = ("followers", request.entity, request.viewer)
        after = self._tokens.read_edge_cursor(request.page_token, *scope)

        async def read(limit: int) -> Sequence[tuple[Edge, EdgeCursor]]:
            return await self._edges.list_followers(request.entity, after, limit)

        page = await read_page(read, _page_size(request.page_size))
        edges = [edge for edge, _ in page.entries]
        visible = await self._viewers.entities(request.viewer, edges)
        next_page_token = ""
        if page.has_more:
            _, last_cursor = page.entries[-1]
            next_page_token = self._tokens.seal_edge_cursor(last_cursor, *scope)
        return pb.ListFollowersResponse(
            edges=[convert.follow_edge(edge) for edge in visible], next_page_token=next_page_token
        )

    async def ListFollowing(
        self, request: pb.ListFollowingRequest, context: Any
    ) -> pb.ListFollowingResponse:
        scope = ("following", request.entity, request.viewer)
        after = self._tokens.read_edge_cursor(request.page_token, *scope)

        async def read(limit: int) -> Sequence[Edge]:
            return await self._edges.list_following(request.entity, after, limit)

        page = await read_page(read, _page_size(request.page_size))
        visible = await self._viewers.entities(request.viewer, page.entries)
        next_page_token = ""
        if page.has_more:
            last_cursor = EdgeCursor(page.entries[-1].position, 0)
            next_page_token = self._tokens.seal_edge_cursor(last_cursor, *scope)
        return pb.ListFollowingResponse(
            edges=[convert.follow_edge(edge) for edge in visible], next_page_token=next_page_token
        )

    async def BatchGetRelationships(
        self, request: pb.BatchGetRelationshipsRequest, context: Any
    ) -> pb.BatchGetRelationshipsResponse:
        visible = await self._viewers.entities(request.viewer, request.others)
        following, followers = await asyncio.gather(
            self._edges.followed_among(request.entity, visible),
            self._edges.followers_among(request.entity, visible),
        )
        return pb.BatchGetRelationshipsResponse(
            relationships=[
                pb.Relationship(
                    other=other, following=other in following, followed_by=other in followers
                )
                for other in request.others
            ]
        )

    async def GetFollowCounts(
        self, request: pb.GetFollowCountsRequest, context: Any
    ) -> pb.GetFollowCountsResponse:
        if not await self._viewers.entities(request.viewer, [request.entity]):
            return pb.GetFollowCountsResponse()
        followers, following = await self._edges.counts(request.entity)
        return pb.GetFollowCountsResponse(follower_count=followers, following_count=following)
