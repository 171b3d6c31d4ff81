"""Batches of the import: their order, their size, and their errors."""

import asyncio

import pytest
from activityfeed.v1.follow_service_pb2 import FollowRequest

from feedsvc.cli.importing.batch_sender import BatchSender, Entry


class Receiver:
    """A receiver of batches, which answers each of them once it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.batches: list[list[str]] = []
        self.running = self.most_running = 0

    async def __call__(self, entries: list[Entry[FollowRequest]]) -> None:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        await self.open.wait()
        self.batches.append([entry.location for entry in entries])
        self.running -= 1


def sender_to(
    receiver: Receiver, *, batch_size: int = 10, batch_bytes: int = 10_000
) -> BatchSender[FollowRequest]:
    return BatchSender(receiver, lanes=3, batch_size=batch_size, batch_bytes=batch_bytes)


def entry(key: str, number: int) -> Entry[FollowRequest]:
    return Entry(f"{key} {number}", FollowRequest(follower=key))


async def test_each_key_keeps_its_order_and_no_request_is_lost() -> None:
    receiver = Receiver()
    receiver.open.set()
    keys = [f"user {number}" for number in range(20)]
    async with sender_to(receiver) as sender:
        for number in range(50):
            for key in keys:
                await sender.put(key, entry(key, number))
    arrived = [location for batch in receiver.batches for location in batch]
    for key in keys:
        of_key = [location for location in arrived if location.startswith(f"{key} ")]
        assert of_key == [f"{key} {number}" for number in range(50)]
    assert len(arrived) == 1000
    assert max(map(len, receiver.batches)) == 10
    assert receiver.most_running <= 3


async def test_put_waits_while_the_receiver_takes_no_batch() -> None:
    receiver = Receiver()
    async with sender_to(receiver) as sender:
        put_count = 0

        async def put_all() -> None:
            nonlocal put_count
            while put_count < 1000:
                await sender.put("key", entry("key", put_count))
                put_count += 1

        putting = asyncio.create_task(put_all())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert put_count < 20  # one batch is being sent, the next one is full
        receiver.open.set()
        await putting
    assert sum(map(len, receiver.batches)) == 1000


async def test_a_batch_stays_below_its_bytes_unless_one_request_exceeds_them() -> None:
    receiver = Receiver()
    receiver.open.set()
    request_bytes = FollowRequest(follower="key").ByteSize()
    async with sender_to(receiver, batch_bytes=4 * request_bytes) as sender:
        for number in range(10):
            await sender.put("key", entry("key", number))
        await sender.put("key", Entry("big", FollowRequest(follower="x" * 1000)))
        await sender.put("key", entry("key", 10))
    assert [len(batch) for batch in receiver.batches] == [4, 4, 2, 1, 1]


async def test_a_failed_batch_fails_a_later_put_or_the_end() -> None:
    class Broken(Exception):
        pass

    async def broken(_: list[Entry[FollowRequest]]) -> None:
        raise Broken

    sender = BatchSender(broken, lanes=3, batch_size=10, batch_bytes=10_000)
    with pytest.raises(Broken):  # noqa: PT012
        async with sender:
            for number in range(1000):
                await sender.put("key", entry("key", number))


async def test_an_error_in_the_context_cancels_batches_under_way() -> None:
    receiver = Receiver()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with sender_to(receiver, batch_size=1) as sender:
            await sender.put("key", entry("key", 0))
            raise ZeroDivisionError
    assert receiver.batches == []
