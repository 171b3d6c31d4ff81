"""What is the same activity, and what is given by the service."""

import asyncio
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import Activity, Attachment, Ref
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from google.protobuf.struct_pb2 import Struct

from feedsvc.config import Limits
from tests.serving import Serve, Service, activity_of, at_ms, refused, until

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20)
DAY_AGO = at_ms(1_700_000_000_000)


@pytest.mark.every_store
async def test_what_was_answered_may_be_sent_back(service: Service) -> None:
    """Whatever the service has added to it."""
    sent = Activity(
        actor="alice",
        verb="post",
        external_id="e",
        object=Ref(entity="repo:x"),
        attachments=[Attachment(url="u")],
        content="c",
    )
    first = await service.activities.PublishActivity(PublishActivityRequest(activity=sent))
    for read in (first.activity, await service.get(first.activity.id)):
        assert read == first.activity
        again = await service.activities.PublishActivity(PublishActivityRequest(activity=read))
        assert (again.already_published, again.activity) == (True, first.activity)


@pytest.mark.every_store
async def test_time_does_not_make_another_activity(service: Service) -> None:
    """Nor does an empty `extra`; the first time counts."""
    posted = await service.post("alice", external_id="e", publish_time=DAY_AGO, request_id="r")
    for fields in (
        {},
        {"publish_time": at_ms(DAY_AGO.ToMilliseconds() + 1)},
        {"publish_time": DAY_AGO, "extra": Struct()},
    ):
        for names in ({"external_id": "e"}, {"external_id": "e", "request_id": "r"}):
            again = await service.publish("alice", **fields, **names)
            assert (again.already_published, again.activity.id) == (True, posted)
            assert again.activity.publish_time == DAY_AGO


@pytest.mark.every_store
async def test_what_the_service_gives(service: Service) -> None:
    new = (await service.publish("alice", etag="mine", id="1", update_time=DAY_AGO)).activity
    assert new.create_time == new.publish_time
    assert new.create_time.ToMilliseconds() == int(new.id) >> 21
    old = (await service.publish("alice", publish_time=DAY_AGO, create_time=DAY_AGO)).activity
    assert old.publish_time == DAY_AGO
    assert abs(old.create_time.ToMilliseconds() - new.create_time.ToMilliseconds()) < 60_000
    for activity in (new, old):
        assert activity.etag == "v1"
        assert not activity.HasField("update_time")
        assert await service.get(activity.id) == activity


@pytest.mark.every_store
async def test_replay_after_the_activity_was_deleted(service: Service) -> None:
    """The request_id answers what it answered; the external_id says what became of it."""
    first = await service.publish("alice", external_id="e", request_id="r", content="c")
    await service.delete(first.activity.id, "alice")
    again = await service.publish("alice", external_id="e", request_id="r", content="c")
    assert (again.already_published, again.activity.id) == (True, first.activity.id)
    assert again.activity.content == "c"
    refusal = await refused(service.publish("alice", external_id="e", content="c"))
    assert refusal.reason == "ACTIVITY_DELETED"


@pytest.mark.every_store
async def test_external_id_that_retention_took(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.post("alice", external_id="e")
    await service.posts("alice", 25)
    refusal = await refused(service.publish("alice", external_id="e"))
    assert refusal.reason == "EXTERNAL_ID_EXPIRED"
    refusal = await refused(service.publish("alice", publish_time=DAY_AGO))
    assert refusal.reason == "BEFORE_RETENTION"


@pytest.mark.every_store
async def test_external_ids_end(service: Service) -> None:
    """Sixty days after what they name, whichever way that ended; its tombstone stays."""
    posted = await service.post("alice", external_id="e")
    key = f"{service.tag('alice')}x:alice\0e"
    assert await service.store.ttl(key) == -1
    await service.delete(posted, "alice")
    days = await service.store.ttl(key) / 86_400
    assert 59.9 < days <= 60
    assert await service.store.ttl(service.activity_key(posted)) == -1
    # As time does it.
    await service.store.delete(key)
    another = await service.publish("alice", external_id="e")
    assert not another.already_published
    assert another.activity.id > posted


async def test_references_name_one_thing(service: Service) -> None:
    posted = await service.post("alice")
    for ref in (Ref(id="issue:1"), Ref(entity="repo:x"), Ref(activity_id=posted)):
        activity = (await service.publish("bob", object=ref)).activity
        assert activity.object == ref


async def test_what_is_stored_can_be_read_without_protobuf(service: Service) -> None:
    """Each of two activities that differ in a part has another hash of that part alone."""
    one = await service.post("alice", object=Ref(id="x"))
    same = await service.post("alice", object=Ref(id="x"), content="c")
    other = await service.post("alice", object=Ref(entity="x"))
    frames = [await service.store.get(service.activity_key(found)) for found in (one, same, other)]
    verbs, actors, objects, groups = zip(
        *([frame[at : at + 4] for at in (9, 13, 17, 21)] for frame in frames), strict=True
    )
    assert len({*verbs}) == len({*actors}) == 1
    assert objects[0] == objects[1] != objects[2]
    assert groups[0] == groups[1] != groups[2]


@pytest.mark.every_store
async def test_outbox_resumes_from_a_page(service: Service) -> None:
    """What happens after the page is told, and nothing is that came before."""
    await service.posts("repo:x", 3)
    page = await service.outbox_page("repo:x", resumable=True)
    posted = await service.post("alice", to=["repo:x"])
    await service.at_rest()
    stream = await service.subscribe_activities("repo:x", page.resume_token)
    assert await stream.event() == ("added", posted)
    # While somebody listens, every page can be gone on from.
    page = await service.outbox_page("repo:x")
    last = await service.post("repo:x")
    other = await service.subscribe_activities("repo:x", page.resume_token)
    assert await other.event() == ("added", last)


async def test_outbox_page_loses_nothing_that_happens_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published while the page is read is on the page, or told after it."""
    outboxes = service.server.engine.feeds._outboxes
    merge, late = outboxes.merge, list[str]()

    async def meanwhile(*arguments: Any, **how: Any) -> Any:
        found = await merge(*arguments, **how)
        late.append(await service.post("repo:x"))
        return found

    monkeypatch.setattr(outboxes, "merge", meanwhile)
    page = await service.outbox_page("repo:x", resumable=True)
    assert not page.activities
    stream = await service.subscribe_activities("repo:x", page.resume_token)
    assert await stream.event() == ("added", late[0])


async def test_outbox_page_that_nobody_listened_to(service: Service) -> None:
    page = await service.outbox_page("repo:x")
    await service.post("repo:x")
    await (await service.subscribe_activities("repo:x", page.resume_token)).expired()


@pytest.mark.every_store
async def test_removed_says_whose_it_was(service: Service) -> None:
    box = await service.subscribe_activities("repo:x")
    everything = await service.subscribe_all()
    named = await service.post("alice", to=["repo:x"], external_id="e")
    nameless = await service.post("bob", to=["repo:x"], audience=2)
    await service.at_rest()
    await service.delete(named, "alice")
    await service.delete(nameless, "bob")
    for stream in (box, everything):
        found = []
        async with asyncio.timeout(10):
            while len(found) < 2:
                message = await stream.message()
                found += [
                    (one.activity_id, one.actor, one.external_id, one.reason)
                    for one in (event.removed for event in message.events.events)
                    if one.activity_id
                ]
        assert sorted(found) == sorted([(named, "alice", "e", 1), (nameless, "bob", "", 1)])


@pytest.mark.every_store
async def test_events_say_when(service: Service) -> None:
    stream = await service.subscribe("bob")
    box = await service.subscribe_activities("bob")
    posted = await service.publish("bob")
    for open_stream in (stream, box):
        message = await open_stream.message()
        while not message.HasField("events"):
            message = await open_stream.message()
        (event,) = message.events.events
        assert activity_of(event.added) == posted.activity
        late = event.event_time.ToMilliseconds() - posted.activity.create_time.ToMilliseconds()
        assert 0 <= late < 5_000


async def test_retention_leaves_no_external_id_behind(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.post("alice", external_id="e")
    key = f"{service.tag('alice')}x:alice\0e"
    await service.posts("alice", 25)

    async def ends() -> bool:
        return bool(0 < await service.store.ttl(key) <= 60 * 86_400)

    await until(ends)
