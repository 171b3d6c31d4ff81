"""Calls of the Python client: errors, deadlines, request ids, pages and subscriptions."""

import time

import grpc
import pytest
from activityfeed import FeedClient, reason, retry_after, violations
from activityfeed._request_ids import with_request_ids
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    DeleteActivityRequest,
    GetActivityRequest,
    PublishActivityRequest,
)
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest
from activityfeed.v1.subscription_service_pb2 import SUBSCRIPTION_START_RESUMED
from google.rpc.status_pb2 import Status

from feedsvc.config import Limits
from tests.serving import Serve, Service, events_of


async def test_a_refused_call_has_a_reason_and_violations(client: FeedClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.activities.PublishActivity(
            PublishActivityRequest(activity=Activity(actor="a\n"))
        )
    assert reason(caught.value) == "INVALID_FIELD"
    assert [(v.field, v.description) for v in violations(caught.value)] == [
        ("activity.actor", "must not contain control characters"),
        ("activity.verb", "is required"),
    ]


async def test_a_refused_entry_of_a_batch_has_a_reason_and_violations(client: FeedClient) -> None:
    answer = await client.follows.BatchFollow(
        BatchFollowRequest(requests=[FollowRequest(follower="a", followee="a")])
    )
    error = answer.results[0].error
    assert reason(error) == "INVALID_FIELD"
    assert [v.field for v in violations(error)] == ["followee"]


async def test_errors_of_grpc_itself_have_no_reason() -> None:
    async with FeedClient.connect("127.0.0.1:1", timeout=5) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.activities.GetActivity(GetActivityRequest(id="1"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (reason(caught.value), violations(caught.value)) == ("", [])
    assert (reason(Status(code=5)), violations(Status(code=5))) == ("", [])
    assert (retry_after(caught.value), retry_after(Status(code=5))) == (None, None)


async def test_retry_after_is_the_delay_that_the_service_asks_for(serve: Serve) -> None:
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1, max_jobs=1), workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    request = PublishActivityRequest(activity=Activity(actor="alice", verb="post"))
    async with FeedClient.connect(f"127.0.0.1:{service.server.port}") as client:
        await client.activities.PublishActivity(request)
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.activities.PublishActivity(request)
        assert (reason(caught.value), retry_after(caught.value)) == ("FANOUT_OVERLOADED", 1)
        assert time.monotonic() - start < 1, "the client leaves the retry to its caller"
        batch = BatchPublishActivitiesRequest(requests=[request])
        (result,) = (await client.activities.BatchPublishActivities(batch)).results
        assert retry_after(result.error) == 1


async def test_a_call_ends_at_the_timeout_of_the_client() -> None:
    async with FeedClient.connect("127.0.0.1:1", timeout=0.05) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.activities.GetActivity(GetActivityRequest(id="1"), wait_for_ready=True)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_each_mutation_gets_a_request_id_of_its_own() -> None:
    for request in (PublishActivityRequest(), DeleteActivityRequest(), FollowRequest()):
        first, second = with_request_ids(request), with_request_ids(request)
        assert len(first.request_id) == 32
        assert first.request_id != second.request_id
        # The caller may send the same message again and mean a second activity.
        assert request.request_id == ""
    batch = BatchPublishActivitiesRequest(
        requests=[PublishActivityRequest(), PublishActivityRequest()]
    )
    first, second = with_request_ids(batch).requests
    assert len({first.request_id, second.request_id, ""}) == 3


def test_request_ids_of_the_caller_are_kept() -> None:
    request = PublishActivityRequest(request_id="mine")
    assert with_request_ids(request).request_id == "mine"
    batch = BatchFollowRequest(requests=[FollowRequest(request_id="mine"), FollowRequest()])
    assert with_request_ids(batch).requests[0].request_id == "mine"
    read = GetActivityRequest(id="1")
    assert with_request_ids(read) is read


async def test_publishing_the_same_message_twice_makes_two_activities(
    service: Service, client: FeedClient
) -> None:
    request = PublishActivityRequest(activity=Activity(actor="alice", verb="post"))
    for _ in range(2):
        answer = await client.activities.PublishActivity(request)
        assert not answer.already_published
    assert len(await service.outbox("alice")) == 2


async def test_pages_walk_the_whole_feed(service: Service, client: FeedClient) -> None:
    posted = await service.post_many("alice", 25)
    pages = [page async for page in client.pages("alice", page_size=10)]
    assert [item.activity.activity.id for page in pages for item in page.items] == posted[::-1]
    assert len(pages) >= 3


async def test_subscribe_begins_now_or_resumes_from_a_token(
    service: Service, client: FeedClient
) -> None:
    messages = client.subscribe("alice")
    message = await anext(messages)
    assert events_of(message) == [("started", "")]
    await messages.aclose()
    posted = await service.post("alice")
    messages = client.subscribe("alice", message.resume_token)
    assert (await anext(messages)).started.start == SUBSCRIPTION_START_RESUMED
    assert events_of(await anext(messages)) == [("added", posted)]
    await messages.aclose()
