"""Messages that no generated stub would send."""

from typing import Any

import grpc
import pytest
from activityfeed.v1 import activity_service_pb2 as activities
from activityfeed.v1 import follow_service_pb2 as follows

from tests.contract.bad_input.requests import RPCS, good_publish
from tests.contract.bad_input.sending import (
    INTERNALS,
    SERVICES,
    check_unharmed,
    send,
    send_raw,
    varint,
)
from tests.serving import Refusal, Service, expect_refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")
MALFORMED = "must be a well-formed message of its type, with strings in UTF-8"
REQUEST_BYTES, BATCH_BYTES = 1_048_576, 3_000_000
#: Contents of a string field that are not UTF-8: nonsense, a surrogate, an overlong NUL.
NOT_UTF8 = [b"\x02\xff\xfe", b"\x03\xed\xa0\x80", b"\x02\xc0\x80"]
#: The tag of the first string or message of each request, if the field is not field 1.
STRINGS: dict[str, bytes | None] = {
    "ListDeadLetters": b"\x12",
    "GetFanoutStatus": None,
    "GetServerStatus": None,
    # The server refuses their entries one by one: see the test of malformed entries.
    "BatchPublishActivities": None,
    "BatchFollow": None,
}
#: Field 1 with bytes that cut it off, unknown wire types, and nonsense.
MALFORMED_BYTES = [
    b"\x0a\x50abc",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff",
    b"\x0f",
    b"\x00",
    b"{}",
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("rpc", RPCS)
async def test_malformed_message_is_refused(service: Service, rpc: str) -> None:
    method = f"{SERVICES[RPCS[rpc].service]}/{rpc}"
    stored_before = await service.dump()
    tag = STRINGS.get(rpc, b"\x0a")
    not_utf8 = [] if tag is None else [tag + text for text in NOT_UTF8]
    for data in MALFORMED_BYTES + not_utf8:
        refusal = await expect_refusal(send_raw(service, method, data))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT, data
        assert refusal.reason == "INVALID_FIELD"
        assert refusal.rules == {"": MALFORMED}
        assert not INTERNALS.search(refusal.message)
    assert await service.dump() == stored_before
    await check_unharmed(service)


@pytest.mark.parametrize("rpc", ["BatchPublishActivities", "BatchFollow"])
async def test_malformed_entry_of_a_batch_is_refused_alone(service: Service, rpc: str) -> None:
    method = f"{SERVICES[RPCS[rpc].service]}/{rpc}"
    good_entry = RPCS[rpc].good().requests[0].SerializeToString()  # type: ignore[attr-defined]
    bad_entries = [b"\x0a\x50abc", *(b"\x12" + text for text in NOT_UTF8)]
    data = b"".join(b"\x0a" + varint(len(entry)) + entry for entry in (*bad_entries, good_entry))
    response_type = getattr(activities if rpc.startswith("BatchP") else follows, f"{rpc}Response")
    *refusals, accepted = response_type.FromString(await send_raw(service, method, data)).results
    for result in refusals:
        refusal = Refusal.from_status(result.error)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        )
        assert refusal.rules == {"": MALFORMED}
    assert len(refusals) == len(bad_entries)
    assert accepted.HasField("response")


async def test_request_larger_than_any_valid_request_is_refused_undecoded(service: Service) -> None:
    unknown = b"\xfa\x7f" + varint(REQUEST_BYTES) + b"x" * REQUEST_BYTES
    refusal = await expect_refusal(
        send_raw(service, "FeedService/GetFeed", b"\x0a\x03bob" + unknown)
    )
    assert refusal.rules == {"": f"must have at most {REQUEST_BYTES} bytes"}
    unknown = b"\xfa\x7f" + varint(BATCH_BYTES) + b"x" * BATCH_BYTES
    refusal = await expect_refusal(send_raw(service, "FollowService/BatchFollow", unknown))
    rule = f"must have at most {BATCH_BYTES} bytes serialised, together"
    assert refusal.rules == {"requests": rule}
    await check_unharmed(service)


async def test_request_nested_too_deep_to_decode_is_refused(service: Service) -> None:
    """The request has a thousand levels of Struct."""
    value = b""
    for _ in range(1_000):  # Value.list_value = ListValue.values = Value ...
        value = b"\x0a" + varint(len(value)) + value
        value = b"\x32" + varint(len(value)) + value
    entry = b"\x0a\x01k\x12" + varint(len(value)) + value
    struct = b"\x0a" + varint(len(entry)) + entry
    extra = b"\x62" + varint(len(struct)) + struct
    request = b"\x0a" + varint(len(extra)) + extra
    refusal = await expect_refusal(send_raw(service, "ActivityService/PublishActivity", request))
    assert refusal.reason == "INVALID_FIELD"
    await check_unharmed(service)


async def test_message_larger_than_grpc_allows_is_refused(service: Service) -> None:
    stored_before = await service.dump()
    request = good_publish()
    request.activity.content = "x" * (4 * 1024 * 1024 + 1)
    code = await code_of_grpc_refusal(send(service, "PublishActivity", request))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await service.dump() == stored_before
    await check_unharmed(service)


async def test_unknown_method_is_refused(service: Service) -> None:
    for method in ("FeedService/Nothing", "NothingService/GetFeed"):
        code = await code_of_grpc_refusal(send_raw(service, method, b""))
        assert code == grpc.StatusCode.UNIMPLEMENTED
    await check_unharmed(service)


async def code_of_grpc_refusal(call: Any) -> grpc.StatusCode:
    """Return the code of an error that comes from gRPC itself, and so has no details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()
