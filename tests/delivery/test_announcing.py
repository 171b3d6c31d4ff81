"""Announcements to live followers: exact, and no dearer than the smaller of both groups."""

import asyncio
from collections.abc import Sequence

import pytest

from feedsvc.config import Limits
from tests.serving import Serve, Service

LIMITS = Limits(shards=1, push_chunk=3, celebrity_threshold=0)
ID = "1700000000000000000"
FANS = [f"fan{number:02}" for number in range(40)]


async def make_live(service: Service, users: Sequence[str]) -> None:
    for user in users:
        await service.server.engine.logs.open(service.server.engine.logs.of_feed(user))
        await asyncio.sleep(0.002)  # no two leases end in the same millisecond


class Announcing:
    """The announcement of a retraction, chunk by chunk."""

    def __init__(self, service: Service, budget: int) -> None:
        self._store = service.server.engine.store
        self._budget = budget
        self.resume_position = "-inf"
        self.examined = 0

    async def announce_chunk(self) -> bool:
        """Announce to the next chunk; return False after the last chunk."""
        ((resume_position, examined),) = await self._store.script(
            "announce", [0], "alice", ID, "removed", self._budget, self.resume_position
        )
        self.resume_position = resume_position.decode()
        self.examined += examined
        return bool(self.resume_position)


async def notified(service: Service, users: Sequence[str]) -> list[str]:
    """Return the users whose logs have the retraction, each as often as the log has it."""
    notified_users = []
    for user in users:
        entries = await service.store.xrange(f"{service.tag(user)}l:{user}")
        notified_users += [user for _, fields in entries if fields.get(b"r") == ID.encode()]
    return notified_users


@pytest.mark.every_store
@pytest.mark.parametrize(("followers", "live_users"), [(3, 40), (40, 3), (2, 40), (40, 0)])
async def test_announcement_examines_the_smaller_of_followers_and_live_users(
    serve: Serve, followers: int, live_users: int
) -> None:
    service = await serve(limits=LIMITS, workers=0)
    await service.follow_all([(fan, "alice") for fan in FANS[-followers:]])
    await make_live(service, FANS[40 - live_users :])
    announcing = Announcing(service, budget=5)
    while await announcing.announce_chunk():
        pass
    assert announcing.examined <= min(followers, live_users)
    assert await notified(service, FANS) == FANS[40 - min(followers, live_users) :]


@pytest.mark.every_store
@pytest.mark.parametrize("others", [0, 60])
@pytest.mark.parametrize("step", range(3))
async def test_announcement_reaches_each_live_follower_once_whatever_happens_between_chunks(
    serve: Serve, step: int, others: int
) -> None:
    """With many `others`, live users who do not follow, the script goes through the followers."""
    service = await serve(limits=LIMITS, workers=0)
    fans = FANS[:20]
    await service.follow_all([(fan, "alice") for fan in fans])
    await make_live(service, [f"other{number}" for number in range(others)])
    await make_live(service, fans[::2])
    announcing, chunks = Announcing(service, budget=3), 0
    while await announcing.announce_chunk():
        if chunks == step:
            await make_live(service, fans[2:8:2])  # their leases are prolonged
            for fan in (fans[0], fans[1], fans[18]):
                await service.unfollow(fan, "alice")
            await service.follow("late", "alice")
            await service.follow(fans[1], "alice")
            if others:  # from now on more users follow than are live
                await service.store.zremrangebyrank("{0}v", 0, others - 1)
            await make_live(service, [fans[1]])
        chunks += 1
    assert chunks >= 3
    notified_users = await notified(service, fans)
    assert set(notified_users) >= set(fans[2:18:2])
    assert set(notified_users) <= set(fans[::2]) | {fans[1]}
    assert len(notified_users) == len(set(notified_users))


async def test_announcement_reaches_leases_prolonged_after_the_clock_was_set_back(
    serve: Serve,
) -> None:
    """The prolonged lease would end before leases that the announcement has passed already."""
    service = await serve(limits=LIMITS, workers=0)
    fans = FANS[:20]
    await service.follow_all([(fan, "alice") for fan in FANS])
    await make_live(service, fans)
    for number, fan in enumerate(fans):  # a clock that was a day ahead set the leases
        await service.store.zincrby("{0}v", 86_400_000 + number, fan)
    announcing = Announcing(service, budget=10)
    assert await announcing.announce_chunk()
    await make_live(service, fans)
    while await announcing.announce_chunk():
        pass
    assert await notified(service, fans) == fans
