"""FollowService: check, call the core, convert."""

import asyncio
from typing import Any

from activityfeed.v1 import follow_service_pb2 as pb
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceServicer

from feedsvc import convert, validate
from feedsvc.batches import Batch, Slices
from feedsvc.core.activities import digest
from feedsvc.core.edges import EdgeCursor, NewEdge
from feedsvc.core.engine import Engine
from feedsvc.errors import FeedError
from feedsvc.status import status_of
from feedsvc.tokens import Tokens

#: Entries of a batch that are decoded in one go.
ENTRIES_A_SLICE = 50


def _edge(request: pb.FollowRequest | pb.UnfollowRequest) -> NewEdge:
    # The follower is part of the record's name already.
    return NewEdge(
        request.follower,
        request.followee,
        request.request_id,
        digest(request.followee.encode()) if request.request_id else b"",
    )


def _page_size(wanted: int) -> int:
    return convert.page_size(wanted, convert.DEFAULT_EDGES, convert.MOST_EDGES)


class FollowService(FollowServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens, slices: Slices) -> None:
        self._edges = engine.edges
        self._viewers = engine.viewers
        self._tokens = tokens
        self._slices = slices

    async def Follow(self, request: pb.FollowRequest, context: Any) -> pb.FollowResponse:
        (made,) = await self._edges.follow([_edge(request)])
        if isinstance(made, FeedError):
            raise made
        return pb.FollowResponse(edge=convert.follow_edge(made), already_following=made.already)

    async def Unfollow(self, request: pb.UnfollowRequest, context: Any) -> pb.UnfollowResponse:
        return pb.UnfollowResponse(was_following=await self._edges.unfollow(_edge(request)))

    async def BatchFollow(  # type: ignore[override]
        self, batch: Batch[pb.FollowRequest], context: Any
    ) -> bytes:
        results: list[pb.FollowResult] = []
        wanted: dict[int, NewEdge] = {}
        for number in range(len(batch.entries)):
            if number % ENTRIES_A_SLICE == 0:
                await self._slices.turn()
            results.append(pb.FollowResult())
            try:
                entry = validate.decoded(batch.entry.FromString, batch.entries[number])
                validate.check(entry)
            except Exception as error:  # noqa: BLE001 (each entry has a status of its own)
                results[number].error.CopyFrom(status_of(error))
            else:
                wanted[number] = _edge(entry)
        made = await self._edges.follow(list(wanted.values()))
        for number, edge in zip(wanted, made, strict=True):
            if isinstance(edge, FeedError):
                results[number].error.CopyFrom(status_of(edge))
            else:
                answer = results[number].response
                answer.edge.CopyFrom(convert.follow_edge(edge))
                answer.already_following = edge.already
        return pb.BatchFollowResponse(results=results).SerializeToString()

    async def ListFollowers(
        self, request: pb.ListFollowersRequest, context: Any
    ) -> pb.ListFollowersResponse:
        bound = ("followers", request.entity, request.viewer)
        after = self._tokens.read_place(request.page_token, *bound)
        size = _page_size(request.page_size)
        found = await self._edges.list_followers(request.entity, after, size + 1)
        more = len(found) > size
        found = found[:size]
        seen = await self._viewers.entities(request.viewer, [edge for edge, _ in found])
        return pb.ListFollowersResponse(
            edges=[convert.follow_edge(edge) for edge in seen],
            next_page_token=self._tokens.place(found[-1][1], *bound) if more else "",
        )

    async def ListFollowing(
        self, request: pb.ListFollowingRequest, context: Any
    ) -> pb.ListFollowingResponse:
        bound = ("following", request.entity, request.viewer)
        after = self._tokens.read_place(request.page_token, *bound)
        size = _page_size(request.page_size)
        found = await self._edges.list_following(request.entity, after, size + 1)
        more = len(found) > size
        found = found[:size]
        seen = await self._viewers.entities(request.viewer, found)
        return pb.ListFollowingResponse(
            edges=[convert.follow_edge(edge) for edge in seen],
            next_page_token=self._tokens.place(EdgeCursor(found[-1].position, 0), *bound)
            if more
            else "",
        )

    async def BatchGetRelationships(
        self, request: pb.BatchGetRelationshipsRequest, context: Any
    ) -> pb.BatchGetRelationshipsResponse:
        seen = await self._viewers.entities(request.viewer, request.others)
        following, followers = await asyncio.gather(
            self._edges.followed_among(request.entity, seen),
            self._edges.followers_among(request.entity, seen),
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
