"""The server itself: health, reflection, its port and its stop."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from feedsvc.config import Config
from feedsvc.health_status import SERVICES
from feedsvc.server import CannotListen, Server
from tests.contract.refusals import check_refusal
from tests.serving import Serve, Service, ids_on_page, refusal_of


async def test_every_service_is_healthy(serve: Serve) -> None:
    service = await serve(drain_seconds=5)
    stub: Any = HealthStub(service.channel)
    for name in ("", *SERVICES):
        answer = await stub.Check(HealthCheckRequest(service=name))
        assert answer.status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(HealthCheckRequest(service="nothing"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_health_reports_that_the_server_stops(store_url: str) -> None:
    async with Server(Config(port=0, redis_url=store_url, drain_seconds=5)) as server:
        address = f"127.0.0.1:{server.port}"
        channel = grpc.aio.insecure_channel(address)
        stub: Any = HealthStub(channel)
        watch = stub.Watch(HealthCheckRequest())
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await channel.close()
        await stopping


async def test_reflection_lists_every_service(service: Service) -> None:
    channel: Any = service.channel
    stub: Any = ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
    answer = await call.read()
    listed = {listed_service.name for listed_service in answer.list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health"}
    call = stub.ServerReflectionInfo(
        iter([ServerReflectionRequest(file_containing_symbol=name) for name in SERVICES])
    )
    for _ in SERVICES:
        assert (await call.read()).file_descriptor_response.file_descriptor_proto


async def test_second_server_on_the_same_port_fails_to_start(
    service: Service, store_url: str
) -> None:
    port = service.server.port
    with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port}.*--port"):
        await Server(Config(port=port, redis_url=store_url)).__aenter__()
    assert ids_on_page(await service.page("bob")) == []


async def test_stopping_server_ends_streams_with_a_token(serve: Serve) -> None:
    """Each stream ends at once, so that its client can resume on another server."""
    service = await serve(drain_seconds=10)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.server.port}") as channel:
        client = Service(service.server, channel, service.store)
        streams = [await client.subscribe("bob") for _ in range(20)]
        await service.stop()
        for stream in streams:
            message = await stream.read_message()
            assert message.resume_token
            assert message.HasField("heartbeat")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read_message()
            check_refusal(refusal_of(caught.value), "DRAINING")
