"""Rules that follow and unfollow."""

from typing import Any

from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.machine import ModelMachine, Request, indexes, names, pick
from tests.serving import Refusal


class FollowingRules(ModelMachine):
    @rule(follower=names, followee=names, with_request_id=st.booleans())
    def follow(self, follower: str, followee: str, with_request_id: bool) -> None:
        if follower == followee:
            return
        self.serial += 1
        message = FollowRequest(
            follower=follower,
            followee=followee,
            request_id=f"f{self.serial}" if with_request_id else "",
        )

        async def send() -> Any:
            return await self.service.follows.Follow(message)

        answer = self.run(send())
        assert answer.already_following != self.oracle.follow(follower, followee)
        if with_request_id:
            self.requests.append(Request(self.service.follows.Follow, message, answer))

    @rule(edges=st.lists(st.tuples(names, names), min_size=1, max_size=8))
    def follow_batch(self, edges: list[tuple[str, str]]) -> None:
        async def send() -> Any:
            requests = [
                FollowRequest(follower=follower, followee=followee) for follower, followee in edges
            ]
            return await self.service.follows.BatchFollow(BatchFollowRequest(requests=requests))

        answer = self.run(send())
        for (follower, followee), result in zip(edges, answer.results, strict=True):
            if follower == followee:
                assert Refusal.from_status(result.error).reason == "INVALID_FIELD"
            else:
                is_new = self.oracle.follow(follower, followee)
                assert result.response.already_following != is_new

    @rule(index=indexes, with_request_id=st.booleans())
    def unfollow(self, index: int, with_request_id: bool) -> None:
        if self.oracle.edges:
            self._unfollow(*pick(list(self.oracle.edges), index), with_request_id)

    @rule(follower=names, followee=names)
    def unfollow_a_stranger(self, follower: str, followee: str) -> None:
        self._unfollow(follower, followee, False)

    def _unfollow(self, follower: str, followee: str, with_request_id: bool) -> None:
        self.serial += 1
        request_id = f"u{self.serial}" if with_request_id else ""
        answer = self.run(self.service.unfollow(follower, followee, request_id))
        assert answer.was_following == self.oracle.unfollow(follower, followee)
