"""GetFeedEvents: the events of a feed by polling."""

from typing import Any

import grpc
import pytest
from activityfeed.v1.subscription_service_pb2 import GetFeedEventsRequest

from tests.serving import TIMEOUT_SECONDS, Serve, Service, activity_of, expect_refusal

#: Seconds between checkpoints: none comes while a test runs.
CHECKPOINT_NEVER = 300


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=CHECKPOINT_NEVER)


async def poll(service: Service, user: str, token: str = "") -> Any:
    return await service.subscriptions.GetFeedEvents(
        GetFeedEventsRequest(user=user, resume_token=token), timeout=TIMEOUT_SECONDS
    )


@pytest.mark.every_store
async def test_polling_brings_all_events(service: Service) -> None:
    await service.follow("bob", "alice")
    answer = await poll(service, "bob")
    assert not answer.events
    start_token = answer.resume_token
    answer = await poll(service, "bob", start_token)
    assert (list(answer.events), answer.more) == ([], False)
    posted = await service.post_many("alice", 150)
    added_ids: list[str] = []
    while True:
        answer = await poll(service, "bob", answer.resume_token)
        added_ids += (activity_of(event.added).id for event in answer.events)
        if not answer.more:
            break
    assert sorted(added_ids) == posted
    # A stream accepts the token too.
    stream = await service.subscribe("bob", answer.resume_token)
    last_id = await service.post("alice")
    assert await stream.read_event() == ("added", last_id)
    answer = await poll(service, "bob", start_token)
    assert answer.more
    await service.store.delete(f"{service.tag('bob')}l:bob")
    refusal = await expect_refusal(poll(service, "bob", start_token))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
    answer = await poll(service, "bob", refusal.metadata["resume_token"])
    assert not answer.events


@pytest.mark.every_store
async def test_events_that_are_read_together_have_their_present_routes(service: Service) -> None:
    """Activities have several routes, or came by a route that the user does not follow any more."""
    for followee in ("alice", "carol", "dave", "repo:x"):
        await service.follow("bob", followee)
    token = (await poll(service, "bob")).resume_token
    two_routes_id = await service.post("alice", to=["repo:x"])
    remaining_route_id = await service.post("carol", to=["repo:x"])
    await service.post("dave")
    last_id = await service.post("alice")
    for followee in ("carol", "dave"):
        await service.unfollow("bob", followee)
    events = (await poll(service, "bob", token)).events
    added = [event.added for event in events if event.WhichOneof("event") == "added"]
    assert [(activity_of(item).id, list(item.via)) for item in added] == [
        (two_routes_id, ["alice", "repo:x"]),
        (remaining_route_id, ["repo:x"]),
        (last_id, ["alice"]),
    ]
