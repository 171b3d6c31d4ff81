"""What the contract does not allow is refused by name, leaves no trace, and harms nothing."""

import math

import grpc
import pytest
from activityfeed.v1.activity_pb2 import Ref
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.bad_input.cases import (
    BAD,
    CONTROL,
    GOOD,
    REQUIRED,
    TOO_EARLY,
    Case,
    rule_too_long,
)
from tests.contract.bad_input.requests import ID, NOTHING_REQUIRED, RPCS, assign
from tests.contract.bad_input.sending import check_refused, send
from tests.serving import Service, expect_refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("case", BAD, ids=str)
async def test_bad_field_is_named_with_its_rule(service: Service, case: Case) -> None:
    refusal = await check_refused(service, case.rpc, case.request())
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.rules == case.rules


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc not in NOTHING_REQUIRED])
async def test_refusal_of_an_empty_request_names_every_required_field(
    service: Service, rpc: str
) -> None:
    required_fields: dict[str, set[str]] = {
        "PublishActivity": {"activity"},
        "BatchPublishActivities": {"requests"},
        "GetActivity": {"id"},
        "GetDelivery": {"id"},
        "BatchGetActivities": {"ids"},
        "DeleteActivity": {"id", "actor"},
        "Follow": {"follower", "followee"},
        "Unfollow": {"follower", "followee"},
        "BatchFollow": {"requests"},
        "BatchGetRelationships": {"entity", "others"},
        "ListActivities": {"entity"},
        "ListFollowers": {"entity"},
        "ListFollowing": {"entity"},
        "GetFollowCounts": {"entity"},
        "SubscribeActivities": {"entity"},
        "ReplayDeadLetters": {"ids"},
        "DiscardDeadLetters": {"ids"},
    }
    empty_request = type(RPCS[rpc].good())()
    refusal = await check_refused(service, rpc, empty_request)
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.rules) == required_fields.get(rpc, {"user"})


async def test_every_bad_field_is_named_at_once(service: Service) -> None:
    changes = {
        "activity.actor": "",
        "activity.verb": "x" * 65,
        "activity.to[0]": "a\0",
        "activity.to[1]": "b",
        "activity.object": Ref(),
        "activity.audience": 7,
        "activity.publish_time": Timestamp(),
        "request_id": "x" * 129,
    }
    case = Case("PublishActivity", "", changes, {})
    refusal = await check_refused(service, case.rpc, case.request())
    assert refusal.rules == {
        "activity.actor": REQUIRED,
        "activity.verb": rule_too_long(64),
        "activity.to[0]": CONTROL,
        "activity.object.subject": "is required: one of id, entity and activity_id",
        "activity.audience": "must be a value of Audience",
        "activity.publish_time": TOO_EARLY,
        "request_id": rule_too_long(128),
    }


@pytest.mark.parametrize("unknown_id", ["0" * 19, ID, str(2**63 - 1), ID[:-3] + "000"])
async def test_unknown_activity_id_is_not_found(service: Service, unknown_id: str) -> None:
    for rpc in ("GetActivity", "GetDelivery", "DeleteActivity"):
        request = RPCS[rpc].good()
        assign(request, "id", unknown_id)
        refusal = await check_refused(service, rpc, request)
        assert refusal.code == grpc.StatusCode.NOT_FOUND
        assert refusal.reason == "ACTIVITY_NOT_FOUND"


async def test_number_that_json_cannot_write_is_refused(service: Service) -> None:
    """NaN and the infinities are refused at any depth; the largest finite numbers are accepted."""
    for number in (math.nan, math.inf, -math.inf):
        shallow = Struct(fields={"a": Value(number_value=1), "b": Value(number_value=number)})
        deep = Struct()
        deep["list"] = [1, {"deep": [0, 0]}]
        deep["list"][1]["deep"].values[1].number_value = number
        for value, path in ((shallow, "b"), (deep, "list[1].deep[1]")):
            refusal = await expect_refusal(service.publish("alice", extra=value))
            assert refusal.rules == {
                f"activity.extra.{path}": "must be a finite number: JSON has no NaN and no Infinity"
            }
    largest = Struct()
    largest["numbers"] = [1.7976931348623157e308, -5e-324, 0.0, -0.0]
    largest["text"] = "\x11      \u07f0\x7f"
    published = await service.publish("alice", extra=largest)
    assert published.activity.extra == largest


# The last test of the file, because it writes much.
@pytest.mark.parametrize("case", GOOD, ids=str)
async def test_request_just_within_the_limits_is_accepted(service: Service, case: Case) -> None:
    if case.rpc in {"GetActivity", "GetDelivery", "DeleteActivity"}:  # ID names no activity
        refusal = await expect_refusal(send(service, case.rpc, case.request()))
        assert refusal.reason == "ACTIVITY_NOT_FOUND"
    else:
        await send(service, case.rpc, case.request())
