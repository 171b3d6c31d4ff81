"""Activities that go only to outboxes of others (`AUDIENCE_TO_ONLY`)."""

import time

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY

from feedsvc.config import Limits
from tests.serving import Serve, Service, at_ms, refused, until

SMALL = Limits(feed_cap=10, feed_slack=2, outbox_cap=20)
HOUR_MS = 3_600_000
DAY_AGO = at_ms(int(time.time() * 1000) - 24 * HOUR_MS)


async def to_only(service: Service, to: list[str], actor: str = "alice", **fields: object) -> str:
    return await service.post(actor, to=to, audience=AUDIENCE_TO_ONLY, **fields)


@pytest.mark.every_store
async def test_what_no_outbox_can_hold_is_refused(serve: Serve) -> None:
    """Before anything is stored; one outbox that can hold the activity is enough."""
    service = await serve(limits=SMALL)
    await service.posts("repo:x", 25)
    await service.at_rest()
    before = await service.dump()
    refusal = await refused(to_only(service, ["repo:x"], publish_time=DAY_AGO, request_id="r"))
    assert refusal.reason == "BEFORE_RETENTION"
    assert await service.dump() == before
    posted = await to_only(service, ["repo:x", "repo:y"], publish_time=DAY_AGO)
    assert await service.outbox("repo:y") == [posted]


async def test_outbox_that_is_trimmed_while_it_is_published_to(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer does not say that what nobody has was delivered."""
    service = await serve(limits=SMALL)
    await service.posts("repo:x", 25)

    async def holds(*_: object) -> bool:
        return True

    monkeypatch.setattr(service.server.engine.activities, "_some_hold", holds)
    refusal = await refused(to_only(service, ["repo:x"], publish_time=DAY_AGO))
    assert refusal.reason == "BEFORE_RETENTION"


async def test_repetition_is_answered_although_the_outbox_was_trimmed_since(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    posted = await to_only(service, ["repo:x"], publish_time=DAY_AGO, request_id="r")
    await service.posts("repo:x", 25)
    assert await to_only(service, ["repo:x"], publish_time=DAY_AGO, request_id="r") == posted


@pytest.mark.every_store
async def test_id_is_not_used_again_after_its_tombstone(serve: Serve) -> None:
    service = await serve(limits=SMALL)
    fields = {"publish_time": DAY_AGO, "external_id": "e"}
    posted = await to_only(service, ["repo:x"], **fields)
    key = service.activity_key(posted)
    await service.posts("repo:x", 25)

    async def gone() -> bool:
        return bool(await service.store.get(key) == b"")

    await until(gone)
    # As time does it.
    tag = service.tag("alice")
    assert await service.store.delete(key, f"{tag}x:alice\0e") == 2
    period, *rest = (await service.store.hget(f"{tag}R", "alice")).split()
    await service.store.hset(f"{tag}R", "alice", b" ".join([b"%d" % (int(period) - 2), *rest]))
    refusal = await refused(to_only(service, ["repo:y"], **fields))
    assert refusal.reason == "BEFORE_RETENTION"
    assert await service.store.exists(key) == 0
    later = at_ms(DAY_AGO.ToMilliseconds() + 1)
    assert await to_only(service, ["repo:y"], publish_time=later) > posted


async def test_what_was_let_go_lately_refuses_nothing(serve: Serve) -> None:
    """Its tombstone is there still: a busy outbox does not hinder what is published to others."""
    service = await serve(limits=SMALL)
    posted = await to_only(service, ["repo:x"])
    await service.posts("repo:x", 25)

    async def gone() -> bool:
        return bool(await service.store.get(service.activity_key(posted)) == b"")

    await until(gone)
    await to_only(service, ["repo:y"], publish_time=DAY_AGO)


async def test_its_deletion_is_told_to_those_who_had_it(serve: Serve) -> None:
    """Not to the followers of its actor, who never heard of it."""
    service = await serve()
    await service.follow("bob", "alice")
    await service.follow("carol", "repo:x")
    posted = await to_only(service, ["repo:x"])
    bob, carol = await service.subscribe("bob"), await service.subscribe("carol")
    await service.delete(posted, "alice")
    assert await carol.event() == ("removed", posted)
    second = await service.post("alice")
    assert await bob.event() == ("added", second)
    for stream in (bob, carol):
        await stream.close()
