"""Activities that go only to the outboxes of other entities (`AUDIENCE_TO_ONLY`)."""

import time

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY

from feedsvc.config import Limits
from tests.serving import Serve, Service, at_ms, expect_refusal, wait_until

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20)
HOUR_MS = 3_600_000
DAY_AGO = at_ms(int(time.time() * 1000) - 24 * HOUR_MS)


async def post_to_only(
    service: Service, to: list[str], actor: str = "alice", **fields: object
) -> str:
    return await service.post(actor, to=to, audience=AUDIENCE_TO_ONLY, **fields)


@pytest.mark.every_store
async def test_activity_that_no_outbox_can_hold_is_refused(serve: Serve) -> None:
    """Pitfall: an activity that no outbox keeps is accepted, and nobody can ever read it.

    Nothing is stored before the refusal. One outbox that can hold the activity is enough.
    """
    service = await serve(limits=SMALL)
    await service.post_many("repo:x", 25)
    await service.wait_for_deliveries()
    stored_before = await service.dump()
    refusal = await expect_refusal(
        post_to_only(service, ["repo:x"], publish_time=DAY_AGO, request_id="r")
    )
    assert refusal.reason == "BEFORE_RETENTION"
    assert await service.dump() == stored_before
    activity_id = await post_to_only(service, ["repo:x", "repo:y"], publish_time=DAY_AGO)
    assert await service.outbox("repo:y") == [activity_id]


async def test_publish_is_refused_when_the_outbox_is_trimmed_meanwhile(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall: the answer reports a delivery although the outbox has trimmed the activity."""
    service = await serve(limits=SMALL)
    await service.post_many("repo:x", 25)

    async def takes(*_: object) -> bool:
        return True

    monkeypatch.setattr(service.server.engine.activities, "_any_takes", takes)
    refusal = await expect_refusal(post_to_only(service, ["repo:x"], publish_time=DAY_AGO))
    assert refusal.reason == "BEFORE_RETENTION"


async def test_retry_is_answered_although_the_outbox_was_trimmed_since(serve: Serve) -> None:
    """Pitfall: a retry of a successful publish is refused because the outbox has moved on."""
    service = await serve(limits=SMALL)
    activity_id = await post_to_only(service, ["repo:x"], publish_time=DAY_AGO, request_id="r")
    await service.post_many("repo:x", 25)
    assert (
        await post_to_only(service, ["repo:x"], publish_time=DAY_AGO, request_id="r") == activity_id
    )


@pytest.mark.every_store
async def test_id_is_not_used_again_after_its_tombstone(serve: Serve) -> None:
    """Pitfall: an id becomes free when its tombstone expires, and another activity gets it."""
    service = await serve(limits=SMALL)
    fields = {"publish_time": DAY_AGO, "external_id": "e"}
    activity_id = await post_to_only(service, ["repo:x"], **fields)
    key = service.activity_key(activity_id)
    await service.post_many("repo:x", 25)

    async def is_tombstone() -> bool:
        return bool(await service.store.get(key) == b"")

    await wait_until(is_tombstone)
    # Expire the tombstone and its external id, as time does.
    tag = service.tag("alice")
    assert await service.store.delete(key, f"{tag}x:alice\0e") == 2
    period, *other_fields = (await service.store.hget(f"{tag}R", "alice")).split()
    await service.store.hset(
        f"{tag}R", "alice", b" ".join([b"%d" % (int(period) - 2), *other_fields])
    )
    refusal = await expect_refusal(post_to_only(service, ["repo:y"], **fields))
    assert refusal.reason == "BEFORE_RETENTION"
    assert await service.store.exists(key) == 0
    later = at_ms(DAY_AGO.ToMilliseconds() + 1)
    assert await post_to_only(service, ["repo:y"], publish_time=later) > activity_id


async def test_trimmed_outbox_does_not_refuse_publishes_to_other_outboxes(serve: Serve) -> None:
    """Pitfall: a busy outbox that trims an activity blocks old publish times for other outboxes.

    The tombstone of the trimmed activity still exists here.
    """
    service = await serve(limits=SMALL)
    activity_id = await post_to_only(service, ["repo:x"])
    await service.post_many("repo:x", 25)

    async def is_tombstone() -> bool:
        return bool(await service.store.get(service.activity_key(activity_id)) == b"")

    await wait_until(is_tombstone)
    await post_to_only(service, ["repo:y"], publish_time=DAY_AGO)


async def test_delete_is_announced_only_to_readers_who_had_the_activity(serve: Serve) -> None:
    """Pitfall: a delete reaches the actor's followers, who never had the activity."""
    service = await serve()
    await service.follow("bob", "alice")
    await service.follow("carol", "repo:x")
    activity_id = await post_to_only(service, ["repo:x"])
    bob, carol = await service.subscribe("bob"), await service.subscribe("carol")
    await service.delete(activity_id, "alice")
    assert await carol.read_event() == ("removed", activity_id)
    second_id = await service.post("alice")
    assert await bob.read_event() == ("added", second_id)
    for stream in (bob, carol):
        await stream.close()
