"""Telling live followers: as cheap as the fewer of followers and live entities, and exact."""

import asyncio
from collections.abc import Sequence

import pytest

from feedsvc.config import Limits
from tests.serving import Serve, Service

LIMITS = Limits(shards=1, push_chunk=3, celebrity_threshold=0)
ID = "1700000000000000000"
FANS = [f"fan{number:02}" for number in range(40)]


async def live(service: Service, users: Sequence[str]) -> None:
    for user in users:
        await service.server.engine.logs.open(service.server.engine.logs.of_feed(user))
        await asyncio.sleep(0.002)  # each lease ends in a millisecond of its own


class Telling:
    """A retraction that is told chunk by chunk."""

    def __init__(self, service: Service, budget: int) -> None:
        self._store = service.server.engine.store
        self._budget = budget
        self.place = "-inf"
        self.looked = 0

    async def go_on(self) -> bool:
        """Tell the next chunk; false if that was the last one."""
        ((place, looked),) = await self._store.script(
            "announce", [0], "alice", ID, "removed", self._budget, self.place
        )
        self.place = place.decode()
        self.looked += looked
        return bool(self.place)


async def told(service: Service, users: Sequence[str]) -> list[str]:
    """Those of users who were told, each as often as it was."""
    found = []
    for user in users:
        entries = await service.store.xrange(f"{service.tag(user)}l:{user}")
        found += [user for _, fields in entries if fields.get(b"r") == ID.encode()]
    return found


@pytest.mark.every_store
@pytest.mark.parametrize(("followers", "live_ones"), [(3, 40), (40, 3), (2, 40), (40, 0)])
async def test_the_fewer_of_both_are_looked_at(
    serve: Serve, followers: int, live_ones: int
) -> None:
    service = await serve(limits=LIMITS, workers=0)
    await service.follow_all([(fan, "alice") for fan in FANS[-followers:]])
    await live(service, FANS[40 - live_ones :])
    telling = Telling(service, budget=5)
    while await telling.go_on():
        pass
    assert telling.looked <= min(followers, live_ones)
    assert await told(service, FANS) == FANS[40 - min(followers, live_ones) :]


@pytest.mark.every_store
@pytest.mark.parametrize("others", [0, 60])
@pytest.mark.parametrize("step", range(3))
async def test_nobody_is_missed_whatever_happens_between_chunks(
    serve: Serve, step: int, others: int
) -> None:
    """Through leases, or with many others who are live through followers."""
    service = await serve(limits=LIMITS, workers=0)
    fans = FANS[:20]
    await service.follow_all([(fan, "alice") for fan in fans])
    await live(service, [f"other{number}" for number in range(others)])
    await live(service, fans[::2])
    telling, chunks = Telling(service, budget=3), 0
    while await telling.go_on():
        if chunks == step:
            await live(service, fans[2:8:2])  # leases are prolonged
            for fan in (fans[0], fans[1], fans[18]):
                await service.unfollow(fan, "alice")
            await service.follow("late", "alice")
            await service.follow(fans[1], "alice")
            if others:  # now there are more followers than live entities
                await service.store.zremrangebyrank("{0}v", 0, others - 1)
            await live(service, [fans[1]])
        chunks += 1
    assert chunks >= 3
    found = await told(service, fans)
    assert set(found) >= set(fans[2:18:2])
    assert set(found) <= set(fans[::2]) | {fans[1]}
    assert len(found) == len(set(found))


async def test_lease_prolonged_after_the_clock_was_set_back(serve: Serve) -> None:
    """Such a lease would end before what has been told already."""
    service = await serve(limits=LIMITS, workers=0)
    fans = FANS[:20]
    await service.follow_all([(fan, "alice") for fan in FANS])
    await live(service, fans)
    for number, fan in enumerate(fans):  # by a clock that was a day ahead
        await service.store.zincrby("{0}v", 86_400_000 + number, fan)
    telling = Telling(service, budget=10)
    assert await telling.go_on()
    await live(service, fans)
    while await telling.go_on():
        pass
    assert await told(service, fans) == fans
