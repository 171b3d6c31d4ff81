"""No message is longer than the contract says, and what is cut leads on to the rest."""

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
)
from feedsvc.core import keys
from tests.serving import Serve, Service, activity_of, ids_of, refused, said

#: Checkpoints do not come while a test runs.
QUIET = 300
#: Activities as long as they may be, of authors in different shards: 9.8 MB.
AUTHORS, EACH = 15, 20


def longest(actor: str, **fields: Any) -> Activity:
    """An activity as long as one may be."""
    activity = Activity(actor=actor, verb="post", content="c" * 16_000, **fields)
    activity.extra["x"] = "x" * 10_000
    while activity.ByteSize() < ACTIVITY_BYTES - 2_300 and len(activity.attachments) < 16:
        activity.attachments.add(url="u" * 2_000)
    left = ACTIVITY_BYTES - activity.ByteSize()
    activity.extra["x"] = "x" * (10_000 + left - 8)
    assert ACTIVITY_BYTES - 16 <= activity.ByteSize() <= ACTIVITY_BYTES
    return activity


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=QUIET)


async def published(service: Service) -> list[str]:
    """Publishes more than fits in any message; the ids, oldest first."""
    found = []
    for _ in range(EACH):
        entries = [
            PublishActivityRequest(activity=longest(f"a{number}")) for number in range(AUTHORS)
        ]
        answer = await service.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=entries)
        )
        assert answer.ByteSize() <= MESSAGE_BYTES
        found += [one.response.activity.id for one in answer.results]
    return found


async def told(call: Any, count: int) -> list[tuple[str, list[str]]]:
    """What messages say until so many activities were told: the token and ids of each."""
    found: list[tuple[str, list[str]]] = []
    while sum(len(some) for _, some in found) < count:
        message = await call.read()
        assert message is not grpc.aio.EOF
        assert message.ByteSize() <= MESSAGE_EVENT_BYTES + 2 * ACTIVITY_BYTES < MESSAGE_BYTES
        some = [one for kind, one in said(message) if kind == "added"]
        if message.HasField("events"):
            found.append((message.resume_token, some))
    call.cancel()
    return found


def flat(found: list[tuple[str, list[str]]]) -> list[str]:
    return [one for _, some in found for one in some]


async def test_streams_cut_what_is_long_and_every_part_resumes(service: Service) -> None:
    streams = service.subscriptions
    for number in range(AUTHORS):
        await service.follow("bob", f"a{number}")
    asks: dict[str, Any] = {
        "feed": lambda token: streams.SubscribeFeed(
            SubscribeFeedRequest(user="bob", resume_token=token)
        ),
        "outbox": lambda token: streams.SubscribeActivities(
            SubscribeActivitiesRequest(entity="a0", resume_token=token)
        ),
        "all": lambda token: streams.SubscribeAll(SubscribeAllRequest(resume_token=token)),
    }
    begun = {name: (await ask("").read()).resume_token for name, ask in asks.items()}
    posted = await published(service)
    await service.at_rest()
    expected = {"feed": posted, "outbox": posted[::AUTHORS], "all": posted}
    for name, ask in asks.items():
        found = await told(ask(begun[name]), len(expected[name]))
        assert sorted(flat(found)) == sorted(expected[name])
        assert (len(found) > 1) == (name != "outbox")
        for place in {0, len(found) // 2, len(found) - 1}:
            rest = flat(found[place + 1 :])
            if not rest:
                continue
            again = await told(ask(found[place][0]), len(rest))
            assert sorted(flat(again)) == sorted(rest)
    call = streams.SubscribeFeeds()
    await call.write(
        SubscribeFeedsRequest(
            add=AddFeedSubscription(subscription_id="s", user="bob", resume_token=begun["feed"])
        )
    )
    assert flat(await told(call, len(posted))) == flat(
        await told(asks["feed"](begun["feed"]), len(posted))
    )
    polled, token, more = [], begun["feed"], True
    while more:
        answer = await streams.GetFeedEvents(GetFeedEventsRequest(user="bob", resume_token=token))
        assert answer.ByteSize() <= MESSAGE_BYTES
        polled += [event.added.activity.activity.id for event in answer.events]
        token, more = answer.resume_token, answer.more
    assert sorted(polled) == sorted(posted)


async def test_pages_are_cut_and_lead_on(service: Service) -> None:
    """Also those whose items repeat long names in `via`."""
    names = [f"{number:02}".rjust(ENTITY_BYTES, "n") for number in range(ADDRESSEES)]
    for name in [*names, "alice"]:
        await service.follow("bob", name)
    # `to` of 32 names of 256 bytes each is shown twice: in the activity and in `via`.
    posted = []
    for _ in range(110):
        activity = longest("alice", to=names)
        answer = await service.activities.PublishActivity(PublishActivityRequest(activity=activity))
        posted.append(answer.activity.id)
    await service.at_rest()
    found, pages, token = [], 0, ""
    while token or not pages:
        page = await service.page("bob", token, size=100)
        assert page.ByteSize() <= MESSAGE_BYTES
        found, pages, token = found + ids_of(page), pages + 1, page.next_page_token
    assert (found, pages > 1) == (posted[::-1], True)
    first = service.subscriptions.SubscribeFeed(
        SubscribeFeedRequest(user="bob", initial_page_size=100)
    )
    message: Any = await first.read()
    assert message.ByteSize() <= MESSAGE_BYTES
    assert ids_of(message.started.page)
    listed, token = [], ""
    while token or not listed:
        outbox = await service.outbox_page("alice", token, page_size=100)
        assert outbox.ByteSize() <= MESSAGE_BYTES
        listed += [one.activity.id for one in outbox.activities]
        token = outbox.next_page_token
    assert listed == posted[::-1]
    newer = [ids_of(page) async for page in service.walk_newer("bob", "", size=100)]
    assert newer
    some = await service.activities.BatchGetActivities(BatchGetActivitiesRequest(ids=posted[:100]))
    assert some.ByteSize() <= MESSAGE_BYTES
    assert [activity_of(one.activity).id for one in some.results] == posted[:100]


async def test_batches_are_refused_whose_answer_would_be_long(service: Service) -> None:
    entry = PublishActivityRequest(activity=longest("alice"))
    count = BATCH_BYTES // entry.ByteSize()
    refusal = await refused(
        service.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=[entry] * (count + 1))
        )
    )
    assert (refusal.reason, list(refusal.rules)) == ("INVALID_FIELD", ["requests"])
    assert not await service.outbox("alice")
    # As many as may be, half of the room by what is refused for as many reasons as there can be.
    bad = PublishActivityRequest(
        activity=Activity(actor="\n", to=["\n"] * 32, mentions=["\n"] * 32, attachments=[{}] * 16)
    )
    entries = [entry] * (count - 8) + [bad] * (500 - count + 8)
    answer = await service.activities.BatchPublishActivities(
        BatchPublishActivitiesRequest(requests=entries)
    )
    assert answer.ByteSize() <= MESSAGE_BYTES
    assert [one.HasField("response") for one in answer.results].count(True) == count - 8


async def test_dead_letters_are_cut_and_lead_on(service: Service) -> None:
    names = [f"{number:02}".rjust(ENTITY_BYTES, "n") for number in range(ADDRESSEES)]
    job = "\0".join([f"+{await service.post('alice')}", "alice", *names])
    counts = dict.fromkeys(("since", "feeds", "cold", "seen", "audience", "tries"), 1)
    for _ in range(600):
        fields: dict[Any, Any] = {"job": job, "at": "", **counts, "error": "x"}
        await service.store.xadd(keys.dead(service.tag("alice")), fields)
    found, pages, token = [], 0, ""
    while token or not pages:
        page = await service.admin.ListDeadLetters(
            ListDeadLettersRequest(page_size=1_000, page_token=token)
        )
        assert page.ByteSize() <= MESSAGE_BYTES
        found += [one.id for one in page.dead_letters]
        pages, token = pages + 1, page.next_page_token
    assert (len(found), len(set(found)), pages > 1) == (600, 600, True)
