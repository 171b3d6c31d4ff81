"""Lanes that also ask for deliveries, and the reads of the final state."""

import time

import grpc
from activityfeed.v1.activity_service_pb2 import (
    GetDeliveryRequest,
    ListActivitiesRequest,
)
from activityfeed.v1.follow_service_pb2 import ListFollowingRequest

from tests.faults.history import CallHistory, DeliveryAnswer
from tests.harness.history import NEVER, Item
from tests.harness.traffic import (
    CALL_SECONDS,
    DELIVERED_STATES,
    Caller,
    Lane,
    name_of_state,
)


class CallLane(Lane[CallHistory]):
    """Makes calls of every kind."""

    actions = (
        ("publish", 35),
        ("change_edge", 25),
        ("walk", 30),
        ("delete", 6),
        ("ask_for_delivery", 6),
    )

    async def ask_for_delivery(self, _: str) -> None:
        """Ask for the delivery of a recent activity of this lane."""
        if not self._own_publishes:
            return
        publish = self._chance.choice(self._own_publishes[-5:])
        began = time.monotonic()
        try:
            answer = await self._caller.try_call(
                lambda client: client.activities.GetDelivery(
                    GetDeliveryRequest(id=str(publish.id)), timeout=CALL_SECONDS
                )
            )
        except grpc.aio.AioRpcError as error:
            self._complain_unless_lost(f"the delivery of #{publish.number}", error)
            return
        if answer is None:
            return
        now, state = time.monotonic(), name_of_state(answer.delivery.state)
        is_delivered = answer.delivery.state in DELIVERED_STATES
        self._history.delivery_answers.append(
            DeliveryAnswer(publish.number, began, now, is_delivered, state)
        )
        if is_delivered and publish.delivered == NEVER:
            publish.delivered, publish.delivery_state = now, state

    async def repeat_publishes(self, limit: int) -> dict[int, int]:
        """Send some answered publishes once more; return the ids in the answers, by number."""
        numbers = [
            number
            for number, publish in self._history.publishes.items()
            if publish.id and number in self._requests
        ]
        ids = {}
        for number in self._chance.sample(numbers, min(limit, len(numbers))):
            request = self._requests[number]
            answer = await self._caller.call(
                lambda client, request=request: client.activities.PublishActivity(
                    request, timeout=CALL_SECONDS
                )
            )
            ids[number] = int(answer.activity.id)
        return ids


async def read_outbox(caller: Caller, entity: str) -> list[Item]:
    """Return all that ListActivities lists of an entity's outbox."""
    request = ListActivitiesRequest(entity=entity, page_size=100)
    items: list[Item] = []
    while True:
        page = await caller.call(
            lambda client: client.activities.ListActivities(request, timeout=CALL_SECONDS)
        )
        items += (
            Item(int(listed.activity.id), int(listed.activity.object.id))
            for listed in page.activities
        )
        request.page_token = page.next_page_token
        if not request.page_token:
            return items


async def read_following(caller: Caller, user: str) -> set[str]:
    """Return all followees of a user."""
    request = ListFollowingRequest(entity=user, page_size=1000)
    page = await caller.call(
        lambda client: client.follows.ListFollowing(request, timeout=CALL_SECONDS)
    )
    assert not page.next_page_token
    return {edge.followee for edge in page.edges}
