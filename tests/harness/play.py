"""One history: traffic and faults on a stage, then the wait until the service is quiet."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Generic, TypeVar

import grpc.aio
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
    JobKind,
)

from tests.harness.faults import Faults
from tests.harness.history import History
from tests.harness.processes import ProcessDied
from tests.harness.stage import Stage
from tests.harness.traffic import CALL_SECONDS, PATIENCE_SECONDS, Caller, Lane, Population

StageT = TypeVar("StageT", bound=Stage)
HistoryT = TypeVar("HistoryT", bound=History)


class Play(ABC, Generic[StageT, HistoryT]):
    """One history on a stage that is quiet before and after it."""

    #: Numbers of users, stars among them, and topics.
    users: int
    stars: int
    topics: int
    #: The class and the number of the lanes.
    lane_type: type[Lane[HistoryT]]
    lane_count: int

    def __init__(self, stage: StageT, history: HistoryT, name: str, chance: random.Random) -> None:
        """Prepare a history whose entities have names of their own, by the name of the history."""
        self.stage = stage
        self.history = history
        self.chance = chance
        self.name = name
        self.population = Population.named(name, self.users, self.stars, self.topics)
        self.caller = Caller(lambda: stage.clients, history, random.Random(chance.random()))
        self.lanes = [
            self.lane_type(
                self.population,
                self.population.users[number :: self.lane_count],
                self.caller,
                history,
                random.Random(chance.random()),
            )
            for number in range(self.lane_count)
        ]
        self.companions: list[asyncio.Task[None]] = []
        """Tasks that run beside the lanes; a task that ends early ends the traffic."""

    @abstractmethod
    def make_faults(self, chance: random.Random) -> Faults:
        """Return the faults that strike the stage."""

    @abstractmethod
    def start_companions(self) -> None:
        """Start the tasks that run beside the lanes."""

    @abstractmethod
    async def look(self) -> None:
        """Read the final state of the quiet service into the history.

        Raise TimeoutError if the service does not come to this state.
        """

    async def after_faults(self) -> None:
        """Act after the last fault is mended, before the wait until the service is quiet."""

    async def perform(self, seconds: float) -> HistoryT:
        """Run traffic and faults for some seconds, then wait until the service is quiet."""
        self.caller.deadline = time.monotonic() + PATIENCE_SECONDS
        await asyncio.gather(*(lane.begin() for lane in self.lanes))
        try:
            self.start_companions()
            traffic = asyncio.gather(*(lane.run() for lane in self.lanes))
            await self._break_stage(seconds, traffic)
            self.caller.deadline = time.monotonic() + PATIENCE_SECONDS
            try:
                await traffic
                await self.wait_until_quiet()
                await self.look()
            except (TimeoutError, grpc.aio.AioRpcError) as error:
                self.history.complaints.append(str(error))
                self.history.became_quiet = False
        finally:
            for task in self.companions:
                task.cancel()
            await asyncio.gather(*self.companions, return_exceptions=True)
        self._check_processes()
        return self.history

    async def _break_stage(self, seconds: float, traffic: "asyncio.Future[Any]") -> None:
        """Cause faults for some seconds, and mend them."""
        faults = self.make_faults(random.Random(self.chance.random()))
        breaking = asyncio.create_task(faults.run())
        await asyncio.wait(
            [breaking, traffic, *self.companions],
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        breaking.cancel()
        await asyncio.wait([breaking])
        if not breaking.cancelled():
            breaking.result()
        self.caller.is_stopping = True
        try:
            await faults.heal()
        finally:
            await self.after_faults()

    async def wait_until_quiet(self) -> None:
        """Wait until every server says that nothing is left to be delivered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for client in self.stage.clients:
            while True:
                status = await self.caller.call(partial(_read_status, client))
                if status.open_count + status.inline_count == 0:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(_describe_jobs(status))
                await asyncio.sleep(0.02)
            if status.dead_letter_count:
                text = f"{status.dead_letter_count} deliveries became dead letters"
                self.history.complaints.append(text)

    def _check_processes(self) -> None:
        """Note processes that ended by themselves, and alarming records in their logs."""
        for process in self.stage.processes:
            try:
                process.check()
            except ProcessDied as error:
                self.history.complaints.append(str(error))
        self.history.complaints += self.stage.new_alarms()


async def _read_status(client: FeedClient, _: FeedClient) -> GetFanoutStatusResponse:
    """Ask the given server, not the server that the caller chose."""
    return await client.admin.GetFanoutStatus(GetFanoutStatusRequest(), timeout=CALL_SECONDS)


def _describe_jobs(status: GetFanoutStatusResponse) -> str:
    oldest = status.oldest
    kind = JobKind.Name(oldest.kind).removeprefix("JOB_KIND_")
    return (
        f"the service does not become quiet: {status.waiting_count} jobs wait, "
        f"{status.running_count} run, {status.inline_count} are inline; the oldest is {kind} "
        f"of {oldest.actor} {oldest.activity_id}, after {oldest.attempt_count} attempts"
    )
