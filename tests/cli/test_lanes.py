import asyncio

import pytest
from activityfeed.v1.follow_service_pb2 import FollowRequest

from feedsvc.cli.lanes import Entry, Lanes


class Receiver:
    """Gets batches, each when it is allowed to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.batches: list[list[str]] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, entries: list[Entry[FollowRequest]]) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.open.wait()
        self.batches.append([entry.place for entry in entries])
        self.at_once -= 1


def lanes(receiver: Receiver, *, batch: int = 10, size: int = 10_000) -> Lanes[FollowRequest]:
    return Lanes(receiver, lanes=3, batch=batch, batch_bytes=size)


def entry(key: str, number: int) -> Entry[FollowRequest]:
    return Entry(f"{key} {number}", FollowRequest(follower=key))


async def test_each_key_keeps_its_order_and_nothing_is_lost() -> None:
    receiver = Receiver()
    receiver.open.set()
    keys = [f"user {number}" for number in range(20)]
    async with lanes(receiver) as out:
        for number in range(50):
            for key in keys:
                await out.put(key, entry(key, number))
    arrived = [place for batch in receiver.batches for place in batch]
    for key in keys:
        mine = [place for place in arrived if place.startswith(f"{key} ")]
        assert mine == [f"{key} {number}" for number in range(50)]
    assert len(arrived) == 1000
    assert max(map(len, receiver.batches)) == 10
    assert receiver.most_at_once <= 3


async def test_what_is_not_taken_is_not_read() -> None:
    receiver = Receiver()
    async with lanes(receiver) as out:
        put = 0

        async def feed() -> None:
            nonlocal put
            while put < 1000:
                await out.put("one", entry("one", put))
                put += 1

        feeding = asyncio.create_task(feed())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert put < 20  # one batch on its way, one full
        receiver.open.set()
        await feeding
    assert sum(map(len, receiver.batches)) == 1000


async def test_a_batch_has_so_many_bytes_at_the_most() -> None:
    receiver = Receiver()
    receiver.open.set()
    one = FollowRequest(follower="one").ByteSize()
    async with lanes(receiver, size=4 * one) as out:
        for number in range(10):
            await out.put("one", entry("one", number))
        await out.put("one", Entry("big", FollowRequest(follower="x" * 1000)))
        await out.put("one", entry("one", 10))
    assert [len(batch) for batch in receiver.batches] == [4, 4, 2, 1, 1]


async def test_a_failure_ends_it() -> None:
    class Broken(Exception):
        pass

    async def broken(_: list[Entry[FollowRequest]]) -> None:
        raise Broken

    out = Lanes(broken, lanes=3, batch=10, batch_bytes=10_000)
    with pytest.raises(Broken):  # noqa: PT012
        async with out:
            for number in range(1000):
                await out.put("one", entry("one", number))


async def test_a_failure_outside_stops_what_is_on_its_way() -> None:
    receiver = Receiver()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with lanes(receiver, batch=1) as out:
            await out.put("one", entry("one", 0))
            raise ZeroDivisionError
    assert receiver.batches == []
