"""What belongs to each reason of a refusal."""

from typing import Any

import grpc
from activityfeed.v1.error_reason_pb2 import ErrorReason

from tests.serving import Refusal, Service, expect_refusal

#: Reasons that say when to come again, and the milliseconds that they say.
RETRY_MS = {"DRAINING": 200, "STORE_UNAVAILABLE": 200, "FANOUT_OVERLOADED": 1_000}
#: The status code of each reason.
CODES = {
    "NOT_THE_ACTOR": grpc.StatusCode.PERMISSION_DENIED,
    "ACTIVITY_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ACTIVITY_DELETED": grpc.StatusCode.FAILED_PRECONDITION,
    "EXTERNAL_ID_CONFLICT": grpc.StatusCode.ALREADY_EXISTS,
    "REQUEST_ID_REUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "BEFORE_RETENTION": grpc.StatusCode.FAILED_PRECONDITION,
    "EXTERNAL_ID_EXPIRED": grpc.StatusCode.FAILED_PRECONDITION,
    "TOO_MANY_FOLLOWEES": grpc.StatusCode.FAILED_PRECONDITION,
    "FANOUT_OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DEAD_LETTER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}


def check_refusal(refusal: Refusal, reason: str, **metadata: str) -> None:
    """Check that a refusal has the reason, and all that belongs to the reason."""
    assert refusal.reason == reason
    assert refusal.code == CODES[reason]
    assert refusal.info.domain == "feedsvc"
    assert refusal.metadata == metadata
    assert refusal.rules == {}
    assert refusal.retry_ms == RETRY_MS.get(reason)
    assert f"ERROR_REASON_{reason}" in ErrorReason.keys()  # noqa: SIM118 (no mapping)


async def check_unchanged(service: Service, call: Any, reason: str, **metadata: str) -> None:
    """Check that a call is refused and stores nothing."""
    stored_before = await service.dump()
    check_refusal(await expect_refusal(call), reason, **metadata)
    assert await service.dump() == stored_before
