"""One history of calls, and the look at all that the service holds at its end."""

import asyncio
import random

from activityfeed.admin.v1.admin_service_pb2 import FeedDifference, VerifyFeedRequest
from activityfeed.v1.activity_service_pb2 import GetDeliveryRequest

from tests.faults.history import CallHistory, Difference, FinalState
from tests.faults.lanes import CallLane, read_following, read_outbox
from tests.faults.plain_callers import PlainCallers
from tests.harness.faults import Faults
from tests.harness.history import Walk
from tests.harness.play import Play
from tests.harness.stage import Mode, Stage
from tests.harness.traffic import (
    CALL_SECONDS,
    DELIVERED_STATES,
    gather_limited,
    name_of_state,
    walk_feed,
)

#: Seconds between faults, on average.
MEAN_INTERVAL = 0.15
#: Most times that the final state is read again because it has changed meanwhile.
MAX_LOOKS = 5
#: Most publishes whose delivery the final look asks for.
MAX_ASKED = 30
#: Most publishes that each lane sends once more.
MAX_REPEATED = 2


def weights_of(mode: Mode) -> dict[str, int]:
    """Return how often each fault strikes in a mode."""
    return {
        "server killed": 10,
        "server restarted": 8,
        "worker killed": 10,
        "worker paused": 8,
        "server paused": 4,
        "store killed": 0 if mode == "lost tail" else 8,
        "tail lost": 16 if mode == "lost tail" else 0,
        "store failed over": 30 if mode == "failover" else 0,
        "replies cut": 20,
        "store slow": 6,
        "store full": 4,
        "scripts flushed": 8,
        "feeds expired": 16,
        "clock stepped": 12,
    }


class CallPlay(Play[Stage, CallHistory]):
    """Lanes that make calls of every kind, and callers with gRPC's own retries beside them."""

    users, stars, topics = 60, 4, 4
    lane_type, lane_count = CallLane, 10

    def __init__(self, stage: Stage, name: str, chance: random.Random) -> None:
        history = CallHistory(is_lossy=stage.mode != "durable")
        super().__init__(stage, history, name, chance)
        self._plain_callers = PlainCallers(stage.servers, f"{name}-plain", history)

    def make_faults(self, chance: random.Random) -> Faults:
        weights = weights_of(self.stage.mode)
        return Faults(self.stage, self.history, chance, weights, MEAN_INTERVAL)

    def start_companions(self) -> None:
        self.companions = [asyncio.create_task(self._plain_callers.run())]

    async def after_faults(self) -> None:
        """Let the plain callers end their calls: in a quiet service they would see no restart."""
        self._plain_callers.stop()
        await asyncio.gather(*self.companions)

    async def look(self) -> None:
        self.history.final = await self._read_final_state()
        await self._ask_for_deliveries()
        for lane in self.lanes:
            assert isinstance(lane, CallLane)
            self.history.final.repeated |= await lane.repeat_publishes(MAX_REPEATED)

    async def _read_final_state(self) -> FinalState:
        """Read everything; begin again if a call that nobody waits for took effect only now."""
        final = await self._read_sources()
        for _ in range(MAX_LOOKS):
            final.feeds = await self._walk_feeds("as it was left")
            final.differences = await self._read_differences(final)
            await self.stage.make_cold(self.population.users)
            final.feeds += await self._walk_feeds("cold")
            final.differences += await self._read_differences(final)
            final.feeds += await self._walk_feeds("warm again")
            again = await self._read_sources()
            if (again.outboxes, again.following) == (final.outboxes, final.following):
                return final
            await self.wait_until_quiet()
            final = await self._read_sources()
        raise TimeoutError("the service does not become quiet: outboxes and edges go on changing")

    async def _read_sources(self) -> FinalState:
        entities, users = self.population.entities, self.population.users
        outboxes = await gather_limited(read_outbox(self.caller, entity) for entity in entities)
        following = await gather_limited(read_following(self.caller, user) for user in users)
        return FinalState(
            dict(zip(entities, outboxes, strict=True)), dict(zip(users, following, strict=True))
        )

    async def _walk_feeds(self, occasion: str) -> list[Walk]:
        walks = await gather_limited(
            walk_feed(self.caller, user, 100, may_give_up=False) for user in self.population.users
        )
        for walk in walks:
            walk.occasion = occasion
        return walks

    async def _read_differences(self, final: FinalState) -> list[Difference]:
        numbers = {item.id: item.number for items in final.outboxes.values() for item in items}

        async def verify_feed(user: str) -> list[Difference]:
            answer = await self.caller.call(
                lambda client: client.admin.VerifyFeed(VerifyFeedRequest(user=user), timeout=10)
            )
            return [
                Difference(
                    user,
                    FeedDifference.Kind.Name(difference.kind).removeprefix("KIND_"),
                    int(difference.activity_id),
                    numbers.get(int(difference.activity_id), 0),
                )
                for difference in answer.differences
            ]

        answers = await gather_limited(map(verify_feed, self.population.users))
        return [difference for differences in answers for difference in differences]

    async def _ask_for_deliveries(self) -> None:
        """Complain of each activity whose delivery has not ended."""
        final = self.history.final
        listed = {item.id: item for items in final.outboxes.values() for item in items}
        for activity_id in self.chance.sample(sorted(listed), min(MAX_ASKED, len(listed))):
            request = GetDeliveryRequest(id=str(activity_id))
            answer = await self.caller.call(
                lambda client, request=request: client.activities.GetDelivery(
                    request, timeout=CALL_SECONDS
                )
            )
            if answer.delivery.state not in DELIVERED_STATES:
                number, state = listed[activity_id].number, name_of_state(answer.delivery.state)
                text = f"in the quiet service #{number} ({activity_id}) is {state}"
                self.history.complaints.append(text)
