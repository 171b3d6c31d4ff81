"""What all rules of the model test share: the world's entities, the state, how a step is run."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import DeliveryState, PublishActivityResponse
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from feedsvc.config import Limits
from tests.model.oracle import ModelActivity, Oracle
from tests.serving import Service

T = TypeVar("T")

DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED
PULLED = DeliveryState.DELIVERY_STATE_PULLED

#: Entities; some look like keys of the store.
NAMES = ("ann", "ben", "cat", "repo:x", "f:ann", "{1}o:ben", "öl")
#: The first of the old publish times, in Unix milliseconds.
OLD_MS = 1_400_000_000_000

names = st.sampled_from(NAMES)
page_sizes = st.integers(1, 7)
#: Publish times in milliseconds. The old times are few, so that many activities share a
#: millisecond. A time far in the future counts as now.
publish_times = st.one_of(
    st.none(),
    st.integers(OLD_MS, OLD_MS + 12),
    st.integers(OLD_MS, OLD_MS + 10_000_000),
    st.just(4_000_000_000_000),
)
addressees = st.lists(names, max_size=2, unique=True)
#: A number that picks an element of a list. It is drawn without a look at the list: refusals may
#: depend on the clock, and hypothesis wants an example to draw the same each time.
indexes = st.integers(0, 999)


def pick(elements: Sequence[T], index: int) -> T:
    return elements[index % len(elements)]


@dataclass
class Request:
    """A mutation that may be sent again."""

    method: Any
    message: Any
    answer: Any
    activities: list[ModelActivity] = field(default_factory=list)


class ModelMachine(RuleBasedStateMachine):
    """The state that the rules share.

    The test that runs the machine sets `service`, `runner` and `limits`.
    """

    service: Service
    runner: asyncio.Runner
    limits: Limits
    drawn: ClassVar[list[int]] = [0]
    """Number of random tokens that the service has drawn in this example."""

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle(self.limits.outbox_cap)
        self.published: list[int] = []
        self.requests: list[Request] = []
        #: The activity and the id that were published with an external id, by actor and that id.
        self.external_ids: dict[tuple[str, str], tuple[Activity, int]] = {}
        #: A number that makes request ids and contents unique.
        self.serial = 0

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        self.oracle.step += 1
        return self.runner.run(step)

    @initialize()
    def begin(self) -> None:
        self.drawn[:] = [0]
        self.run(self.service.store.flushall())

    async def wait_for_followers_of_celebrities(
        self, answer: T, published: list[PublishActivityResponse]
    ) -> T:
        """Return the answer once the live followers of celebrities have the published activities.

        A publish does not wait for these followers.
        """
        if any(response.delivery.state == PULLED for response in published):
            await self.service.wait_for_deliveries()
        return answer

    async def carry_retention(self) -> None:
        """Have bodies deleted that no outbox holds any more."""
        await self.service.server.engine.retention.carry()
