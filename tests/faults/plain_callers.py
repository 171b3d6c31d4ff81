"""Callers with gRPC's own retry policy and no client of ours: they must survive every restart."""

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

from tests.faults.history import CallHistory, Outcome
from tests.harness.processes import LOOK_SECONDS
from tests.harness.server import Server
from tests.harness.traffic import PATIENCE_SECONDS

#: The policy of a caller who has read gRPC's guide and nothing of ours.
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
    # Callers reconnect at once, so that calls are under way when the server stops again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    OWN_CONNECTION,
]
#: Seconds between an answer and the next call.
PAUSE_SECONDS = 0.02
#: Callers that call only while a server stops: calls fail at that moment, if at all.
EXTRA_CALLERS = 8

Call = Callable[[], Awaitable[object]]


class PlainCallers:
    """Call each server all the time, whatever happens to it, and note the outcomes.

    They publish nothing: the service may refuse a publish because too many deliveries wait.
    """

    def __init__(self, servers: Sequence[Server], name: str, history: CallHistory) -> None:
        """Take a name for the entities of these calls, for whom no lane calls."""
        self._servers = servers
        self._name = name
        self._history = history
        self._is_over = False

    async def run(self) -> None:
        """Make calls until `stop`."""
        await asyncio.gather(*(self._call_server(server) for server in self._servers))

    def stop(self) -> None:
        """Begin no more calls."""
        self._is_over = True

    async def _call_server(self, server: Server) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", OPTIONS) as channel:
            feeds, follows = FeedServiceStub(channel), FollowServiceStub(channel)
            user, followee = f"{self._name}-reader", f"{self._name}-actor"
            get_feed = GetFeedRequest(user=user)
            follow = FollowRequest(follower=user, followee=followee)
            unfollow = UnfollowRequest(follower=user, followee=followee)
            calls: dict[str, Call] = {
                "GetFeed": lambda: feeds.GetFeed(get_feed, timeout=PATIENCE_SECONDS),
                "Follow": lambda: follows.Follow(follow, timeout=PATIENCE_SECONDS),
                "Unfollow": lambda: follows.Unfollow(unfollow, timeout=PATIENCE_SECONDS),
            }
            callers = [self._call_always(server, name, call) for name, call in calls.items()]
            callers += [
                self._call_while_stopping(server, "GetFeed", calls["GetFeed"])
                for _ in range(EXTRA_CALLERS)
            ]
            await asyncio.gather(*callers)

    async def _call_while_stopping(self, server: Server, method: str, call: Call) -> None:
        while not self._is_over:
            if server.is_stopping:
                await self._call_once(server, method, call)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _call_always(self, server: Server, method: str, call: Call) -> None:
        while not self._is_over:
            await self._call_once(server, method, call)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _call_once(self, server: Server, method: str, call: Call) -> None:
        began, kills, code, details = time.monotonic(), server.kills, "OK", ""
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            code, details = error.code().name, error.details() or ""
        name = f"{method} of {server.process.name}"
        was_killed = server.kills > kills
        outcome = Outcome(name, began, time.monotonic(), code, details, was_killed)
        self._history.outcomes.append(outcome)
