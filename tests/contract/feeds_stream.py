"""A client of SubscribeFeeds: many users on the same stream."""

import asyncio
from typing import Any

import grpc
from activityfeed.v1.subscription_service_pb2 import (
    AddFeedSubscription,
    RemoveFeedSubscription,
    SubscribeFeedsRequest,
    SubscribeFeedsResponse,
)

from tests.serving import TIMEOUT_SECONDS, Refusal, Service, events_of


class FeedsStream:
    """An open SubscribeFeeds. The name of its user is the id of each subscription."""

    def __init__(self, service: Service) -> None:
        self.call: Any = service.subscriptions.SubscribeFeeds()
        self.tokens: dict[str, str] = {}
        self._events: list[tuple[str, str, str]] = []

    async def add(self, user: str, token: str = "", **fields: Any) -> None:
        names = {"subscription_id": user, "user": user}
        add = AddFeedSubscription(resume_token=token, **(names | fields))
        await self.call.write(SubscribeFeedsRequest(add=add))

    async def remove(self, subscription_id: str) -> None:
        remove = RemoveFeedSubscription(subscription_id=subscription_id)
        await self.call.write(SubscribeFeedsRequest(remove=remove))

    async def read_message(self) -> SubscribeFeedsResponse:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            message: Any = await self.call.read()
        assert message is not grpc.aio.EOF, "the stream has ended"
        if message.resume_token:
            self.tokens[message.subscription_id] = message.resume_token
        assert isinstance(message, SubscribeFeedsResponse)
        return message

    async def read_event(self) -> tuple[str, str, str]:
        """Return the next event: its subscription, its kind, and its activity or entity."""
        while not self._events:
            message = await self.read_message()
            name = message.subscription_id
            match message.WhichOneof("message"):
                case "error":
                    self._events.append((name, "error", Refusal.from_status(message.error).reason))
                case "removed":
                    self._events.append((name, "unsubscribed", ""))
                case _:
                    self._events += ((name, *event) for event in events_of(message))
        return self._events.pop(0)

    async def refusal(self) -> tuple[str, dict[str, str]]:
        """Read the next message, an error; return its subscription and the broken rules."""
        message = await self.read_message()
        assert message.HasField("error")
        return message.subscription_id, Refusal.from_status(message.error).rules

    async def read_events(self, count: int) -> list[tuple[str, str, str]]:
        return sorted([await self.read_event() for _ in range(count)])
