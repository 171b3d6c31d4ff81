"""The store is flushed, or given to a server with other settings, under running servers."""

import logging

import pytest
from activityfeed.v1.activity_service_pb2 import DeliveryState
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.health_status import SERVICES
from tests.serving import Serve, Service, expect_refusal, ids_on_page, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(service: Service, name: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(service.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)


@pytest.mark.every_store
async def test_service_works_at_once_after_a_flush_of_the_store(serve: Serve) -> None:
    """Servers recover from a FLUSHALL at once, without a restart."""
    services = [await serve(), await serve()]
    for service in services:
        await service.follow("bob", "alice")
    await services[0].post("alice")
    await services[0].store.flushall()
    for number, service in enumerate(services):
        await service.follow(f"bob{number}", "alice")
        posted = await service.post("alice")
        await service.wait_for_deliveries()
        assert posted in await service.feed(f"bob{number}")
        stream = await service.subscribe(f"bob{number}")
        announced = await service.post("alice")
        assert await stream.read_event() == ("added", announced)
        await stream.close()


@pytest.mark.every_store
async def test_delivery_after_a_flush_does_not_wait_for_a_lease(serve: Serve) -> None:
    """A server that does not know of the loss hands the delivery it began to workers at once."""
    service = await serve(limits=Limits(job_lease=60))
    await service.follow("bob", "alice")
    await service.store.flushall()
    published = await service.publish("alice", to=["carol"], wait=True)
    assert published.delivery.state == DeliveryState.DELIVERY_STATE_DELIVERED


@pytest.mark.every_store
async def test_lost_store_record_is_written_again_and_a_new_secret_adopted(serve: Serve) -> None:
    """Tokens from before stay valid on all servers."""
    first, second = await serve(), await serve()
    posted = await first.post_many("alice", 3)
    token = (await first.page("alice", size=1)).next_page_token
    await first.store.delete(keys.META)

    async def is_written() -> bool:
        return await first.store.hlen(keys.META) == 3

    await wait_until(is_written)
    for service in (first, second):
        assert ids_on_page(await service.page("alice", token)) == posted[1::-1]
    await first.store.hset(keys.META, "secret", "another")

    async def is_adopted() -> bool:
        secrets = {service.server.engine.store.secret for service in (first, second)}
        return secrets == {b"another"}

    await wait_until(is_adopted)
    new_token = (await first.page("alice", size=1)).next_page_token
    assert new_token != token
    assert (await second.page("alice", new_token)).items
    assert (await expect_refusal(second.page("alice", token))).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.every_store
async def test_server_stops_serving_on_a_store_with_other_settings(
    serve: Serve, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = await serve(limits=Limits(shards=4))
    posted = await first.post("alice")
    record = await first.store.hgetall(keys.META)
    before = await first.store.dump(f"{first.tag('alice')}o:alice")
    await first.store.flushall()
    other = await serve(limits=Limits(shards=8))

    async def stops_serving() -> bool:
        return {await health(first, name) for name in ("", *SERVICES)} == {NOT_SERVING}

    await wait_until(stops_serving)
    names = {name async for name in other.store.scan_iter()}
    for call in (first.post("alice"), first.page("alice"), first.follow("bob", "alice")):
        assert (await expect_refusal(call)).reason == "STORE_UNAVAILABLE"
    assert {name async for name in other.store.scan_iter()} == names
    assert await other.feed("alice") == []
    messages = [
        record for record in caplog.records if "made with 8 shards, not 4" in record.getMessage()
    ]
    assert len(messages) == 1
    assert messages[0].levelno == logging.ERROR
    # The operator restores the store of the first server.
    await other.stop()
    await first.store.flushall()
    await first.store.hset(keys.META, mapping=record)
    await first.store.restore(f"{first.tag('alice')}o:alice", 0, before)

    async def serves_again() -> bool:
        return {await health(first, name) for name in ("", *SERVICES)} == {SERVING}

    await wait_until(serves_again)
    posted_later = await first.post("alice")
    assert posted_later in await first.feed("alice")
    assert posted not in await first.feed("alice")  # its body was not restored


async def test_server_stops_serving_on_a_store_with_another_schema(serve: Serve) -> None:
    service = await serve()
    await service.post("alice")
    await service.store.hset(keys.META, "schema", keys.SCHEMA + 1)

    async def stops_serving() -> bool:
        return await health(service) == NOT_SERVING

    await wait_until(stops_serving)
    assert (await expect_refusal(service.page("alice"))).reason == "STORE_UNAVAILABLE"
