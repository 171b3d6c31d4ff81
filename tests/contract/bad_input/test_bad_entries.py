"""Each entry of a batch is judged as its own RPC would judge it."""

import grpc
import pytest
from activityfeed.admin.v1 import admin_service_pb2 as admin
from activityfeed.v1 import activity_service_pb2 as activities
from activityfeed.v1 import follow_service_pb2 as follows

from tests.contract.bad_input.cases import BAD, BAD_IDS, BAD_LETTERS, NOT_A_LETTER, NOT_AN_ID
from tests.contract.bad_input.requests import LETTER
from tests.contract.bad_input.sending import check_unharmed
from tests.serving import Refusal, Service, ids_on_page

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_bad_entries_of_a_batch_publish_write_nothing(service: Service) -> None:
    bad_cases = [case for case in BAD if case.rpc == "PublishActivity"]
    for start in range(0, len(bad_cases), 100):
        small_cases = [
            case for case in bad_cases[start : start + 100] if case.request().ByteSize() < 40_000
        ]
        stored_before = await service.dump()
        answer = await service.activities.BatchPublishActivities(
            activities.BatchPublishActivitiesRequest(
                requests=[case.request() for case in small_cases]
            )
        )
        refusals = [Refusal.from_status(result.error) for result in answer.results]
        assert [refusal.rules for refusal in refusals] == [case.rules for case in small_cases]
        assert {refusal.code for refusal in refusals} == {grpc.StatusCode.INVALID_ARGUMENT}
        assert await service.dump() == stored_before


async def test_bad_entries_of_a_batch_follow_write_nothing(service: Service) -> None:
    bad_cases = [
        case for case in BAD if case.rpc == "Follow" and case.request().ByteSize() < 40_000
    ]
    stored_before = await service.dump()
    answer = await service.follows.BatchFollow(
        follows.BatchFollowRequest(requests=[case.request() for case in bad_cases])
    )
    assert [Refusal.from_status(result.error).rules for result in answer.results] == [
        case.rules for case in bad_cases
    ]
    assert await service.dump() == stored_before


async def test_each_bad_entry_of_a_batch_get_is_refused(service: Service) -> None:
    known_id = ids_on_page(await service.page("bob"))[0]
    requested_ids = [entry for bad_id in BAD_IDS for entry in (bad_id, known_id)]
    answer = await service.activities.BatchGetActivities(
        activities.BatchGetActivitiesRequest(ids=requested_ids)
    )
    shown_ids = [entry.activity.activity.id for entry in answer.results[1::2]]
    assert shown_ids == [known_id] * len(BAD_IDS)
    for entry in answer.results[0::2]:
        refusal = Refusal.from_status(entry.error)
        assert (refusal.reason, refusal.rules) == ("INVALID_FIELD", {"id": NOT_AN_ID})


@pytest.mark.parametrize("rpc", ["Replay", "Discard"])
async def test_each_bad_dead_letter_id_of_a_batch_is_refused(service: Service, rpc: str) -> None:
    letter_ids = [letter_id for bad_id in BAD_LETTERS for letter_id in (bad_id, LETTER)]
    stored_before = await service.dump()
    request = getattr(admin, f"{rpc}DeadLettersRequest")(ids=letter_ids)
    answer = await getattr(service.admin, f"{rpc}DeadLetters")(request)
    refusals = [Refusal.from_status(result.status) for result in answer.results]
    for refusal in refusals[0::2]:
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert (refusal.reason, refusal.rules) == ("INVALID_FIELD", {"id": NOT_A_LETTER})
    assert {refusal.reason for refusal in refusals[1::2]} == {"DEAD_LETTER_NOT_FOUND"}
    assert await service.dump() == stored_before
    await check_unharmed(service)
