"""Sends requests, good and bad, and checks what a refusal leaves behind."""

import re
from typing import Any

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.contract.bad_input.requests import RPCS
from tests.serving import Refusal, Service, expect_refusal, ids_on_page

#: Words that no answer may hold: only the server's authors should see them.
INTERNALS = re.compile(
    r"Traceback|\.py\b|\bredis|\blua\b|EVALSHA|WRONGTYPE|Exception|0x[0-9a-f]{6}"
)


async def send(service: Service, rpc: str, request: Any) -> Any:
    call = getattr(getattr(service, RPCS[rpc].service), rpc)(request)
    if not rpc.startswith("Subscribe"):
        return await call
    try:
        return await call.read()
    finally:
        call.cancel()


async def check_refused(service: Service, rpc: str, request: Any) -> Refusal:
    """Send a request; check that the refusal is clear and that the call leaves no trace."""
    stored_before = await service.dump()
    refusal = await expect_refusal(send(service, rpc, request))
    assert refusal.info.domain == "feedsvc"
    assert not INTERNALS.search(refusal.message)
    assert len(refusal.message) < 1_000
    assert await service.dump() == stored_before
    await check_unharmed(service)
    return refusal


async def check_unharmed(service: Service) -> None:
    stub: Any = HealthStub(service.channel)
    health = await stub.Check(HealthCheckRequest())
    assert health.status == HealthCheckResponse.SERVING
    assert len(ids_on_page(await service.page("bob", size=1))) == 1


async def send_raw(service: Service, method: str, data: bytes) -> Any:
    """Send bytes as the request of a method (`<service>/<RPC>`); return the bytes of the answer."""
    package = "activityfeed.admin.v1" if method.startswith("Admin") else "activityfeed.v1"
    path = f"/{package}.{method}"
    if "/Subscribe" in method:
        stream: Any = service.channel.unary_stream(path, bytes, bytes)(data)
        return await stream.read()
    return await service.channel.unary_unary(path, bytes, bytes)(data)


#: The service in the contract behind each stub of the tests' `Service`.
SERVICES = {
    "activities": "ActivityService",
    "follows": "FollowService",
    "feeds": "FeedService",
    "subscriptions": "SubscriptionService",
    "admin": "AdminService",
}


def varint(number: int) -> bytes:
    """Encode a number as protobuf does."""
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])
