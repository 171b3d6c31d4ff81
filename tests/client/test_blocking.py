"""The calls of the blocking client; test_subscriptions.py tests its subscriptions."""

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest
from activityfeed import BlockingFeedClient, reason, violations
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import GetActivityRequest, PublishActivityRequest

from tests.serving import Service


@pytest.fixture
def client(service: Service) -> Iterator[BlockingFeedClient]:
    with BlockingFeedClient.connect(f"127.0.0.1:{service.server.port}") as client:
        yield client


async def test_each_call_gets_its_own_request_id(
    service: Service, client: BlockingFeedClient
) -> None:
    request = PublishActivityRequest(activity=Activity(actor="alice", verb="post"))
    for _ in range(2):  # the same message twice makes two activities
        answer = await asyncio.to_thread(client.activities.PublishActivity, request)
        assert not answer.already_published
    assert request.request_id == ""
    assert len(await service.outbox("alice")) == 2


async def test_error_has_a_reason_and_violations(client: BlockingFeedClient) -> None:
    request = PublishActivityRequest(activity=Activity(actor="alice"))
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(client.activities.PublishActivity, request)
    assert reason(caught.value) == "INVALID_FIELD"
    assert [violation.field for violation in violations(caught.value)] == ["activity.verb"]


def test_call_ends_at_its_timeout() -> None:
    with BlockingFeedClient.connect("127.0.0.1:1", timeout=0.05) as client:
        with pytest.raises(grpc.RpcError) as caught:
            client.activities.GetActivity(GetActivityRequest(id="1"), wait_for_ready=True)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_pages_hold_the_whole_feed(service: Service, client: BlockingFeedClient) -> None:
    posted = await service.post_many("alice", 25)
    pages = await asyncio.to_thread(lambda: list(client.pages("alice", page_size=10)))
    assert [item.activity.activity.id for page in pages for item in page.items] == posted[::-1]
    assert len(pages) >= 3


async def test_closed_subscription_leaves_no_thread(
    service: Service, client: BlockingFeedClient
) -> None:
    def count_threads_after_subscriptions() -> int:
        for _ in range(20):
            messages = client.subscribe("bob")
            next(messages)
            messages.close()
        return threading.active_count()

    thread_count = await asyncio.to_thread(count_threads_after_subscriptions)
    assert await asyncio.to_thread(count_threads_after_subscriptions) <= thread_count + 2
