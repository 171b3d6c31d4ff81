"""Callers with gRPC's own retry policy and no client of ours: they get over every restart."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc
from activityfeed.client import OWN_CONNECTION
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2 import FollowRequest, UnfollowRequest
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub

from tests.faults.history import History, Outcome
from tests.faults.lanes import PATIENCE_SECONDS
from tests.faults.stage import Server
from tests.harness.processes import LOOK_SECONDS

#: What a caller sets who reads gRPC's guide and nothing of ours.
POLICY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
OPTIONS = [
    ("grpc.service_config", json.dumps(POLICY)),
    # A server that is back is found at once, so that it is called when it stops again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    OWN_CONNECTION,
]
#: Seconds between an answer and the next call.
PAUSE_SECONDS = 0.02
#: Callers who join while a server is being stopped: then is the moment at which calls go wrong.
CROWD = 8

Call = Callable[[], Awaitable[object]]


class Plain:
    """Calls each server all the time, whatever happens to it, and notes the outcomes.

    It publishes nothing: that may be refused because too many deliveries wait.
    """

    def __init__(self, servers: Sequence[Server], name: str, history: History) -> None:
        """``name`` tells whom the calls are about: nobody else calls for them."""
        self._servers = servers
        self._name = name
        self._history = history
        self._over = False

    async def run(self) -> None:
        """Call until it is told to stop."""
        await asyncio.gather(*(self._one(server) for server in self._servers))

    def stop(self) -> None:
        self._over = True

    async def _one(self, server: Server) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", OPTIONS) as channel:
            feeds, follows = FeedServiceStub(channel), FollowServiceStub(channel)
            one, other = f"{self._name}-reader", f"{self._name}-actor"
            read = GetFeedRequest(user=one)
            follow = FollowRequest(follower=one, followee=other)
            unfollow = UnfollowRequest(follower=one, followee=other)
            calls: dict[str, Call] = {
                "GetFeed": lambda: feeds.GetFeed(read, timeout=PATIENCE_SECONDS),
                "Follow": lambda: follows.Follow(follow, timeout=PATIENCE_SECONDS),
                "Unfollow": lambda: follows.Unfollow(unfollow, timeout=PATIENCE_SECONDS),
            }
            works = [self._again(server, method, call) for method, call in calls.items()]
            works += [self._join(server, "GetFeed", calls["GetFeed"]) for _ in range(CROWD)]
            await asyncio.gather(*works)

    async def _join(self, server: Server, method: str, call: Call) -> None:
        while not self._over:
            if server.stopping:
                await self._once(server, method, call)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _again(self, server: Server, method: str, call: Call) -> None:
        while not self._over:
            await self._once(server, method, call)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _once(self, server: Server, method: str, call: Call) -> None:
        began, kills, code, details = time.monotonic(), server.kills, "OK", ""
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            code, details = error.code().name, error.details() or ""
        about = f"{method} of {server.process.name}"
        outcome = Outcome(about, began, time.monotonic(), code, details, server.kills > kills)
        self._history.outcomes.append(outcome)
