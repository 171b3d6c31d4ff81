"""Calls while the store is away or does not answer, and after its return."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    GetFanoutStatusRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import GetDeliveryRequest, PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from feedsvc.embedded import EmbeddedStore
from tests.contract.refusals import check_refusal
from tests.serving import Refusal, Service, expect_refusal, wait_until


@pytest.fixture
async def own_store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """Start a store that the test may stop, and that keeps its data."""
    async with EmbeddedStore(tmp_path) as store:
        yield store


async def test_calls_are_refused_while_the_store_is_away_and_succeed_afterwards(
    own_store: EmbeddedStore,
) -> None:
    service = await Service.start(own_store.url)
    try:
        await service.follow("bob", "alice")
        published = await service.publish("alice", request_id="r")
        stream = await service.subscribe("bob")
        await own_store.stop()
        calls = (
            service.page("bob"),
            service.publish("alice", request_id="s"),
            service.get(published.activity.id),
            service.delete(published.activity.id, "alice"),
            service.follow("bob", "carol"),
            service.unfollow("bob", "alice"),
            service.counts("bob"),
            service.verify("bob"),
            service.stats("bob"),
            service.activities.GetDelivery(GetDeliveryRequest(id=published.activity.id)),
            service.admin.GetFanoutStatus(GetFanoutStatusRequest()),
            service.admin.ListDeadLetters(ListDeadLettersRequest()),
        )
        for refusal in await asyncio.gather(*map(expect_refusal, calls)):
            check_refusal(refusal, "STORE_UNAVAILABLE")
        replay = ReplayDeadLettersRequest(ids=["0-1-1"])
        (result,) = (await service.admin.ReplayDeadLetters(replay)).results
        check_refusal(Refusal.from_status(result.status), "STORE_UNAVAILABLE")
        await own_store.start()

        async def is_back() -> bool:
            try:
                await service.page("bob")
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

        await wait_until(is_back)
        # The acknowledged publish is kept, and the refused publish can be sent again.
        assert await service.feed("bob") == [published.activity.id]
        retried = await service.publish("alice", request_id="s")
        assert await service.feed("bob") == [retried.activity.id, published.activity.id]
        token = stream.token
        resumed = await service.subscribe("bob", token)
        events = await resumed.read_until(("added", retried.activity.id))
        assert events[-1] == ("added", retried.activity.id)
    finally:
        await service.stop()


async def test_publish_whose_deadline_passes_takes_effect_once(own_store: EmbeddedStore) -> None:
    """The server completes the publish that it had begun when its caller gave up."""
    service = await Service.start(own_store.url)
    try:
        await service.post("alice")
        os.kill(own_store.pid, signal.SIGSTOP)
        try:
            request = PublishActivityRequest(
                activity=Activity(actor="alice", verb="late"), request_id="r"
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.activities.PublishActivity(request, timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.feeds.GetFeed(GetFeedRequest(user="alice"), timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            os.kill(own_store.pid, signal.SIGCONT)

        async def is_published() -> bool:
            return len(await service.feed("alice")) == 2

        await wait_until(is_published)
        retried = await service.activities.PublishActivity(request)
        assert retried.already_published
        assert (await service.feed("alice"))[0] == retried.activity.id
        assert len(await service.feed("alice")) == 2
    finally:
        await service.stop()
