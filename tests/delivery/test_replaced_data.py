"""The data is replaced under running servers: flushed, or made anew by a server of another kind."""

import logging

import pytest
from activityfeed.v1.activity_service_pb2 import DeliveryState
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.health_status import SERVICES
from tests.serving import Serve, Service, ids_of, refused, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(service: Service, name: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(service.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)


@pytest.mark.every_store
async def test_all_is_lost_and_all_goes_on(serve: Serve) -> None:
    """A FLUSHALL: at once, and not only after a restart."""
    services = [await serve(), await serve()]
    for service in services:
        await service.follow("bob", "alice")
    await services[0].post("alice")
    await services[0].store.flushall()
    for number, service in enumerate(services):
        await service.follow(f"bob{number}", "alice")
        posted = await service.post("alice")
        await service.at_rest()
        assert posted in await service.feed(f"bob{number}")
        stream = await service.subscribe(f"bob{number}")
        told = await service.post("alice")
        assert await stream.event() == ("added", told)
        await stream.close()


@pytest.mark.every_store
async def test_delivery_after_all_is_lost_waits_for_no_lease(serve: Serve) -> None:
    """A server that has not heard of the loss leaves what it began to workers, at once."""
    service = await serve(limits=Limits(job_lease=60))
    await service.follow("bob", "alice")
    await service.store.flushall()
    published = await service.publish("alice", to=["carol"], wait=True)
    assert published.delivery.state == DeliveryState.DELIVERY_STATE_DELIVERED


@pytest.mark.every_store
async def test_record_is_made_again_and_its_secret_taken(serve: Serve) -> None:
    """Tokens that were given out stay good, on all servers."""
    one, two = await serve(), await serve()
    posted = await one.posts("alice", 3)
    token = (await one.page("alice", size=1)).next_page_token
    await one.store.delete(keys.META)

    async def made() -> bool:
        return await one.store.hlen(keys.META) == 3

    await until(made)
    for service in (one, two):
        assert ids_of(await service.page("alice", token)) == posted[1::-1]
    await one.store.hset(keys.META, "secret", "another")

    async def taken() -> bool:
        return {s.server.engine.store.secret for s in (one, two)} == {b"another"}

    await until(taken)
    fresh = (await one.page("alice", size=1)).next_page_token
    assert fresh != token
    assert (await two.page("alice", fresh)).items
    assert (await refused(two.page("alice", token))).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.every_store
async def test_server_on_a_store_of_another_one_stops_serving(
    serve: Serve, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = await serve(limits=Limits(shards=4))
    posted = await first.post("alice")
    record = await first.store.hgetall(keys.META)
    before = await first.store.dump(f"{first.tag('alice')}o:alice")
    await first.store.flushall()
    other = await serve(limits=Limits(shards=8))

    async def stopped() -> bool:
        return {await health(first, name) for name in ("", *SERVICES)} == {NOT_SERVING}

    await until(stopped)
    names = {name async for name in other.store.scan_iter()}
    for call in (first.post("alice"), first.page("alice"), first.follow("bob", "alice")):
        assert (await refused(call)).reason == "STORE_UNAVAILABLE"
    assert {name async for name in other.store.scan_iter()} == names
    assert await other.feed("alice") == []
    told = [one for one in caplog.records if "made with 8 shards, not 4" in one.getMessage()]
    assert len(told) == 1
    assert told[0].levelno == logging.ERROR
    # Its operator gives it its store back.
    await other.stop()
    await first.store.flushall()
    await first.store.hset(keys.META, mapping=record)
    await first.store.restore(f"{first.tag('alice')}o:alice", 0, before)

    async def serves() -> bool:
        return {await health(first, name) for name in ("", *SERVICES)} == {SERVING}

    await until(serves)
    again = await first.post("alice")
    assert again in await first.feed("alice")
    assert posted not in await first.feed("alice")  # its body is gone


async def test_another_schema_is_noticed(serve: Serve) -> None:
    service = await serve()
    await service.post("alice")
    await service.store.hset(keys.META, "schema", keys.SCHEMA + 1)

    async def stopped() -> bool:
        return await health(service) == NOT_SERVING

    await until(stopped)
    assert (await refused(service.page("alice"))).reason == "STORE_UNAVAILABLE"
