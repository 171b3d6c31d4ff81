"""No message is longer than the contract says, and a cut answer leads on to what remains."""

from typing import Any

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import ListDeadLettersRequest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchGetActivitiesRequest,
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.subscription_service_pb2 import (
    AddFeedSubscription,
    GetFeedEventsRequest,
    SubscribeActivitiesRequest,
    SubscribeAllRequest,
    SubscribeFeedRequest,
    SubscribeFeedsRequest,
)

from feedsvc.contract_limits import (
    ACTIVITY_BYTES,
    ADDRESSEES,
    BATCH_BYTES,
    ENTITY_BYTES,
    MESSAGE_BYTES,
    MESSAGE_EVENT_BYTES,
    MESSAGE_EVENTS,
)
from feedsvc.core import keys
from tests.serving import Serve, Service, activity_of, events_of, expect_refusal, ids_on_page

#: Seconds between checkpoints: none comes while a test runs.
CHECKPOINT_NEVER = 300
#: Authors in different shards, and activities of each, all as long as possible: 9.8 MB.
AUTHORS, POSTS_EACH = 15, 20


def longest_activity(actor: str, **fields: Any) -> Activity:
    """Return an activity of the greatest size."""
    activity = Activity(actor=actor, verb="post", content="c" * 16_000, **fields)
    activity.extra["x"] = "x" * 10_000
    while activity.ByteSize() < ACTIVITY_BYTES - 2_300 and len(activity.attachments) < 16:
        activity.attachments.add(url="u" * 2_000)
    bytes_left = ACTIVITY_BYTES - activity.ByteSize()
    activity.extra["x"] = "x" * (10_000 + bytes_left - 8)
    assert ACTIVITY_BYTES - 16 <= activity.ByteSize() <= ACTIVITY_BYTES
    return activity


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=CHECKPOINT_NEVER)


async def publish_more_than_a_message(service: Service) -> list[str]:
    """Publish more than fits in any message; return the ids, oldest first."""
    posted = []
    for _ in range(POSTS_EACH):
        entries = [
            PublishActivityRequest(activity=longest_activity(f"a{number}"))
            for number in range(AUTHORS)
        ]
        answer = await service.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=entries)
        )
        assert answer.ByteSize() <= MESSAGE_BYTES
        posted += [result.response.activity.id for result in answer.results]
    return posted


async def read_added(call: Any, count: int) -> list[tuple[str, list[str]]]:
    """Read messages until they bring `count` activities; return the token and ids of each."""
    messages: list[tuple[str, list[str]]] = []
    while sum(len(added_ids) for _, added_ids in messages) < count:
        message = await call.read()
        assert message is not grpc.aio.EOF
        assert message.ByteSize() <= MESSAGE_EVENT_BYTES + 2 * ACTIVITY_BYTES < MESSAGE_BYTES
        added_ids = [activity_id for kind, activity_id in events_of(message) if kind == "added"]
        if message.HasField("events"):
            messages.append((message.resume_token, added_ids))
    call.cancel()
    return messages


def ids_in(messages: list[tuple[str, list[str]]]) -> list[str]:
    return [activity_id for _, added_ids in messages for activity_id in added_ids]


async def test_message_holds_no_more_events_than_the_contract_says(service: Service) -> None:
    """A stream of all activities reads several logs at once, each up to the bound of a message."""
    start_token = (
        await service.subscriptions.SubscribeAll(SubscribeAllRequest()).read()
    ).resume_token
    posted = [
        activity_id
        for number in range(8)
        for activity_id in await service.post_many(f"a{number}", MESSAGE_EVENTS // 2)
    ]
    call = service.subscriptions.SubscribeAll(SubscribeAllRequest(resume_token=start_token))
    messages = await read_added(call, len(posted))
    assert sorted(ids_in(messages)) == sorted(posted)
    assert max(len(added_ids) for _, added_ids in messages) <= MESSAGE_EVENTS


async def test_streams_cut_long_messages_and_resume_after_each_part(service: Service) -> None:
    streams = service.subscriptions
    for number in range(AUTHORS):
        await service.follow("bob", f"a{number}")
    open_stream: dict[str, Any] = {
        "feed": lambda token: streams.SubscribeFeed(
            SubscribeFeedRequest(user="bob", resume_token=token)
        ),
        "outbox": lambda token: streams.SubscribeActivities(
            SubscribeActivitiesRequest(entity="a0", resume_token=token)
        ),
        "all": lambda token: streams.SubscribeAll(SubscribeAllRequest(resume_token=token)),
    }
    start_tokens = {
        name: (await open_call("").read()).resume_token for name, open_call in open_stream.items()
    }
    posted = await publish_more_than_a_message(service)
    await service.wait_for_deliveries()
    expected = {"feed": posted, "outbox": posted[::AUTHORS], "all": posted}
    for name, open_call in open_stream.items():
        messages = await read_added(open_call(start_tokens[name]), len(expected[name]))
        assert sorted(ids_in(messages)) == sorted(expected[name])
        assert (len(messages) > 1) == (name != "outbox")
        for index in {0, len(messages) // 2, len(messages) - 1}:
            remaining = ids_in(messages[index + 1 :])
            if not remaining:
                continue
            resumed = await read_added(open_call(messages[index][0]), len(remaining))
            assert sorted(ids_in(resumed)) == sorted(remaining)
    call = streams.SubscribeFeeds()
    await call.write(
        SubscribeFeedsRequest(
            add=AddFeedSubscription(
                subscription_id="s", user="bob", resume_token=start_tokens["feed"]
            )
        )
    )
    assert ids_in(await read_added(call, len(posted))) == ids_in(
        await read_added(open_stream["feed"](start_tokens["feed"]), len(posted))
    )
    polled_ids, token, more = [], start_tokens["feed"], True
    while more:
        answer = await streams.GetFeedEvents(GetFeedEventsRequest(user="bob", resume_token=token))
        assert answer.ByteSize() <= MESSAGE_BYTES
        polled_ids += [event.added.activity.activity.id for event in answer.events]
        token, more = answer.resume_token, answer.more
    assert sorted(polled_ids) == sorted(posted)


async def test_long_pages_are_cut_and_lead_on(service: Service) -> None:
    """Items that repeat long names in `via` count as well."""
    names = [f"{number:02}".rjust(ENTITY_BYTES, "n") for number in range(ADDRESSEES)]
    for name in [*names, "alice"]:
        await service.follow("bob", name)
    # The page shows `to`, 32 names of 256 bytes, twice: in the activity and in `via`.
    posted = []
    for _ in range(110):
        activity = longest_activity("alice", to=names)
        answer = await service.activities.PublishActivity(PublishActivityRequest(activity=activity))
        posted.append(answer.activity.id)
    await service.wait_for_deliveries()
    read_ids, page_count, token = [], 0, ""
    while token or not page_count:
        page = await service.page("bob", token, size=100)
        assert page.ByteSize() <= MESSAGE_BYTES
        read_ids, page_count, token = (
            read_ids + ids_on_page(page),
            page_count + 1,
            page.next_page_token,
        )
    assert (read_ids, page_count > 1) == (posted[::-1], True)
    call = service.subscriptions.SubscribeFeed(
        SubscribeFeedRequest(user="bob", initial_page_size=100)
    )
    message: Any = await call.read()
    assert message.ByteSize() <= MESSAGE_BYTES
    assert ids_on_page(message.started.page)
    listed_ids, token = [], ""
    while token or not listed_ids:
        outbox = await service.outbox_page("alice", token, page_size=100)
        assert outbox.ByteSize() <= MESSAGE_BYTES
        listed_ids += [viewed.activity.id for viewed in outbox.activities]
        token = outbox.next_page_token
    assert listed_ids == posted[::-1]
    newer_pages = [ids_on_page(page) async for page in service.walk_newer("bob", "", size=100)]
    assert newer_pages
    batch = await service.activities.BatchGetActivities(BatchGetActivitiesRequest(ids=posted[:100]))
    assert batch.ByteSize() <= MESSAGE_BYTES
    assert [activity_of(viewed.activity).id for viewed in batch.results] == posted[:100]


async def test_batch_whose_answer_would_be_too_long_is_refused(service: Service) -> None:
    entry = PublishActivityRequest(activity=longest_activity("alice"))
    count = BATCH_BYTES // entry.ByteSize()
    refusal = await expect_refusal(
        service.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=[entry] * (count + 1))
        )
    )
    assert (refusal.reason, list(refusal.rules)) == ("INVALID_FIELD", ["requests"])
    assert not await service.outbox("alice")
    # The most that is allowed, half of it entries that are refused for all possible reasons.
    bad_entry = PublishActivityRequest(
        activity=Activity(actor="\n", to=["\n"] * 32, mentions=["\n"] * 32, attachments=[{}] * 16)
    )
    entries = [entry] * (count - 8) + [bad_entry] * (500 - count + 8)
    answer = await service.activities.BatchPublishActivities(
        BatchPublishActivitiesRequest(requests=entries)
    )
    assert answer.ByteSize() <= MESSAGE_BYTES
    assert [result.HasField("response") for result in answer.results].count(True) == count - 8


async def test_long_pages_of_dead_letters_are_cut_and_lead_on(service: Service) -> None:
    names = [f"{number:02}".rjust(ENTITY_BYTES, "n") for number in range(ADDRESSEES)]
    job = "\0".join([f"+{await service.post('alice')}", "alice", *names])
    counts = dict.fromkeys(("since", "feeds", "cold", "seen", "audience", "tries"), 1)
    for _ in range(600):
        fields: dict[Any, Any] = {"job": job, "at": "", **counts, "error": "x"}
        await service.store.xadd(keys.dead(service.tag("alice")), fields)
    letter_ids, page_count, token = [], 0, ""
    while token or not page_count:
        page = await service.admin.ListDeadLetters(
            ListDeadLettersRequest(page_size=1_000, page_token=token)
        )
        assert page.ByteSize() <= MESSAGE_BYTES
        letter_ids += [letter.id for letter in page.dead_letters]
        page_count, token = page_count + 1, page.next_page_token
    assert (len(letter_ids), len(set(letter_ids)), page_count > 1) == (600, 600, True)
