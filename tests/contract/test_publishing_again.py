"""Which publishes repeat the same activity, and which fields the service fills in."""

import asyncio
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import (
    AUDIENCE_FOLLOWERS,
    Activity,
    Attachment,
    Ref,
    ViewedActivity,
)
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from google.protobuf.struct_pb2 import Struct

from feedsvc.config import Limits
from tests.serving import Serve, Service, activity_of, at_ms, expect_refusal, wait_until

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20)
DAY_AGO = at_ms(1_700_000_000_000)


@pytest.mark.every_store
async def test_activity_is_returned_as_it_was_given(service: Service) -> None:
    given = Activity(
        actor="alice",
        verb="post",
        external_id="e",
        to=["repo:x", "alice"],
        mentions=["bob"],
        content="two\nlines \0 \u2028",
        publish_time=at_ms(1_700_000_000_123),
        audience=AUDIENCE_FOLLOWERS,
    )
    given.object.id, given.object.name, given.target.id = "o", "an\nobject", "t"
    given.attachments.add(url="https://example.org", name="alternative\ntext")
    given.extra.update({"deep": [{"er": None}, 1.5, True], "": ""})
    given.publish_time.nanos += 456_789  # finer than a millisecond
    answer = await service.activities.PublishActivity(PublishActivityRequest(activity=given))
    published = answer.activity
    given.id, given.etag = published.id, "v1"
    given.create_time.CopyFrom(published.create_time)
    assert published == given
    assert await service.get(published.id) == given
    (item,) = (await service.page("alice")).items
    assert (item.activity.activity, list(item.via)) == (given, ["alice"])
    assert list((await service.outbox_page("repo:x")).activities) == [
        ViewedActivity(activity=given)
    ]


@pytest.mark.every_store
async def test_returned_activity_can_be_published_again(service: Service) -> None:
    """The fields that the service added do not make another activity of it."""
    given = Activity(
        actor="alice",
        verb="post",
        external_id="e",
        object=Ref(entity="repo:x"),
        attachments=[Attachment(url="u")],
        content="c",
    )
    first = await service.activities.PublishActivity(PublishActivityRequest(activity=given))
    for returned in (first.activity, await service.get(first.activity.id)):
        assert returned == first.activity
        repeated = await service.activities.PublishActivity(
            PublishActivityRequest(activity=returned)
        )
        assert (repeated.already_published, repeated.activity) == (True, first.activity)


@pytest.mark.every_store
async def test_another_publish_time_does_not_make_another_activity(service: Service) -> None:
    """An empty `extra` does not either. The first publish time counts."""
    activity_id = await service.post("alice", external_id="e", publish_time=DAY_AGO, request_id="r")
    for fields in (
        {},
        {"publish_time": at_ms(DAY_AGO.ToMilliseconds() + 1)},
        {"publish_time": DAY_AGO, "extra": Struct()},
    ):
        for request_ids in ({"external_id": "e"}, {"external_id": "e", "request_id": "r"}):
            repeated = await service.publish("alice", **fields, **request_ids)
            assert (repeated.already_published, repeated.activity.id) == (True, activity_id)
            assert repeated.activity.publish_time == DAY_AGO


@pytest.mark.every_store
async def test_service_fills_in_times_and_etag(service: Service) -> None:
    current = (await service.publish("alice", etag="mine", id="1", update_time=DAY_AGO)).activity
    assert current.create_time == current.publish_time
    assert current.create_time.ToMilliseconds() == int(current.id) >> 21
    imported = (await service.publish("alice", publish_time=DAY_AGO, create_time=DAY_AGO)).activity
    assert imported.publish_time == DAY_AGO
    assert (
        abs(imported.create_time.ToMilliseconds() - current.create_time.ToMilliseconds()) < 60_000
    )
    for activity in (current, imported):
        assert activity.etag == "v1"
        assert not activity.HasField("update_time")
        assert await service.get(activity.id) == activity


@pytest.mark.every_store
async def test_request_id_answers_the_same_after_the_activity_was_deleted(service: Service) -> None:
    """A request id gets its first answer; an external id gets ACTIVITY_DELETED."""
    first = await service.publish("alice", external_id="e", request_id="r", content="c")
    await service.delete(first.activity.id, "alice")
    repeated = await service.publish("alice", external_id="e", request_id="r", content="c")
    assert (repeated.already_published, repeated.activity.id) == (True, first.activity.id)
    assert repeated.activity.content == "c"
    refusal = await expect_refusal(service.publish("alice", external_id="e", content="c"))
    assert refusal.reason == "ACTIVITY_DELETED"


@pytest.mark.every_store
async def test_external_id_of_a_trimmed_activity_is_refused(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.post("alice", external_id="e")
    await service.post_many("alice", 25)
    refusal = await expect_refusal(service.publish("alice", external_id="e"))
    assert refusal.reason == "EXTERNAL_ID_EXPIRED"
    refusal = await expect_refusal(service.publish("alice", publish_time=DAY_AGO))
    assert refusal.reason == "BEFORE_RETENTION"


@pytest.mark.every_store
async def test_external_ids_expire_after_their_activity(service: Service) -> None:
    """An external id expires sixty days after its activity is deleted; the tombstone stays."""
    activity_id = await service.post("alice", external_id="e")
    key = f"{service.tag('alice')}x:alice\0e"
    assert await service.store.ttl(key) == -1
    await service.delete(activity_id, "alice")
    days = await service.store.ttl(key) / 86_400
    assert 59.9 < days <= 60
    assert await service.store.ttl(service.activity_key(activity_id)) == -1
    # Expire the external id, as time does.
    await service.store.delete(key)
    another = await service.publish("alice", external_id="e")
    assert not another.already_published
    assert another.activity.id > activity_id


async def test_reference_keeps_its_kind_of_subject(service: Service) -> None:
    activity_id = await service.post("alice")
    for ref in (Ref(id="issue:1"), Ref(entity="repo:x"), Ref(activity_id=activity_id)):
        activity = (await service.publish("bob", object=ref)).activity
        assert activity.object == ref


async def test_stored_frame_has_a_hash_for_each_part_of_an_activity(service: Service) -> None:
    """Two activities that differ in a part have different hashes of that part alone."""
    first_id = await service.post("alice", object=Ref(id="x"))
    same_object_id = await service.post("alice", object=Ref(id="x"), content="c")
    other_object_id = await service.post("alice", object=Ref(entity="x"))
    frames = [
        await service.store.get(service.activity_key(activity_id))
        for activity_id in (first_id, same_object_id, other_object_id)
    ]
    verbs, actors, objects, groups = zip(
        *([frame[offset : offset + 4] for offset in (9, 13, 17, 21)] for frame in frames),
        strict=True,
    )
    assert len({*verbs}) == len({*actors}) == 1
    assert objects[0] == objects[1] != objects[2]
    assert groups[0] == groups[1] != groups[2]


@pytest.mark.every_store
async def test_stream_of_an_outbox_resumes_from_a_page(service: Service) -> None:
    """The stream brings what happens after the page, and nothing from before."""
    await service.post_many("repo:x", 3)
    page = await service.outbox_page("repo:x", resumable=True)
    activity_id = await service.post("alice", to=["repo:x"])
    await service.wait_for_deliveries()
    stream = await service.subscribe_activities("repo:x", page.resume_token)
    assert await stream.read_event() == ("added", activity_id)
    # While a stream is open, every page can be resumed from.
    page = await service.outbox_page("repo:x")
    last_id = await service.post("repo:x")
    second_stream = await service.subscribe_activities("repo:x", page.resume_token)
    assert await second_stream.read_event() == ("added", last_id)


async def test_outbox_page_loses_nothing_that_is_published_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activity that is published during the read is on the page, or in the stream after it."""
    outboxes = service.server.engine.feeds._outboxes
    merge, late_ids = outboxes.merge, list[str]()

    async def merge_and_publish(*arguments: Any, **options: Any) -> Any:
        merged = await merge(*arguments, **options)
        late_ids.append(await service.post("repo:x"))
        return merged

    monkeypatch.setattr(outboxes, "merge", merge_and_publish)
    page = await service.outbox_page("repo:x", resumable=True)
    assert not page.activities
    stream = await service.subscribe_activities("repo:x", page.resume_token)
    assert await stream.read_event() == ("added", late_ids[0])


async def test_outbox_page_without_a_log_has_an_expired_token(service: Service) -> None:
    page = await service.outbox_page("repo:x")
    await service.post("repo:x")
    await (await service.subscribe_activities("repo:x", page.resume_token)).read_expired_token()


@pytest.mark.every_store
async def test_removed_events_name_the_actor_and_the_external_id(service: Service) -> None:
    outbox_stream = await service.subscribe_activities("repo:x")
    all_stream = await service.subscribe_all()
    with_external_id = await service.post("alice", to=["repo:x"], external_id="e")
    without_external_id = await service.post("bob", to=["repo:x"], audience=2)
    await service.wait_for_deliveries()
    await service.delete(with_external_id, "alice")
    await service.delete(without_external_id, "bob")
    for stream in (outbox_stream, all_stream):
        removed = []
        async with asyncio.timeout(10):
            while len(removed) < 2:
                message = await stream.read_message()
                removed += [
                    (
                        event_removed.activity_id,
                        event_removed.actor,
                        event_removed.external_id,
                        event_removed.reason,
                    )
                    for event_removed in (event.removed for event in message.events.events)
                    if event_removed.activity_id
                ]
        assert sorted(removed) == sorted(
            [(with_external_id, "alice", "e", 1), (without_external_id, "bob", "", 1)]
        )


@pytest.mark.every_store
async def test_events_have_the_time_of_the_event(service: Service) -> None:
    stream = await service.subscribe("bob")
    outbox_stream = await service.subscribe_activities("bob")
    published = await service.publish("bob")
    for open_stream in (stream, outbox_stream):
        message = await open_stream.read_message()
        while not message.HasField("events"):
            message = await open_stream.read_message()
        (event,) = message.events.events
        assert activity_of(event.added) == published.activity
        delay_ms = (
            event.event_time.ToMilliseconds() - published.activity.create_time.ToMilliseconds()
        )
        assert 0 <= delay_ms < 5_000


async def test_external_id_of_a_trimmed_activity_expires(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    await service.post("alice", external_id="e")
    key = f"{service.tag('alice')}x:alice\0e"
    await service.post_many("alice", 25)

    async def expires() -> bool:
        return bool(0 < await service.store.ttl(key) <= 60 * 86_400)

    await wait_until(expires)
