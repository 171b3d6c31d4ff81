"""The connection to the store: batches, their answers, and failures of the connection."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from feedsvc.config import Limits
from feedsvc.core import transport
from feedsvc.core.store import Store
from feedsvc.embedded import EmbeddedStore
from feedsvc.errors import StoreUnavailable


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = Store.at(url, Limits())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.mark.every_store
async def test_each_caller_gets_its_own_answer(store: Store) -> None:
    """A thousand commands at once leave in several batches."""
    await asyncio.gather(*(store.call("SET", f"{{0}}{n}", n) for n in range(1_000)))
    answers = await asyncio.gather(*(store.call("GET", f"{{0}}{n}") for n in range(1_000)))
    assert [int(answer) for answer in answers] == list(range(1_000))


async def test_commands_leave_in_the_order_of_their_calls(store: Store) -> None:
    answers = [store.call("RPUSH", "{0}list", n) for n in range(600)]
    await asyncio.gather(*answers)
    elements = await store.call("LRANGE", "{0}list", 0, -1)
    assert [int(element) for element in elements] == list(range(600))


@pytest.mark.every_store
async def test_refused_command_does_not_disturb_its_batch(store: Store) -> None:
    await store.call("SET", "{0}text", "text")
    answers = await asyncio.gather(
        store.call("GET", "{0}text"),
        store.call("LLEN", "{0}text"),
        store.call("GET", "{0}text"),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == (b"text", b"text")
    assert isinstance(answers[1], ResponseError)


async def test_arguments_are_sent_as_they_are(store: Store) -> None:
    for value in (b"\0\r\n$5\xff", "\u00e9\u4e16", "", 2**62, -1, 0.5):
        await store.call("SET", "{0}value", value)
        sent = value if isinstance(value, bytes) else str(value).encode()
        assert await store.call("GET", "{0}value") == sent


async def test_cancelled_command_does_not_disturb_its_batch(store: Store) -> None:
    cancelled, waiting = store.call("ECHO", "cancelled"), store.call("ECHO", "waiting")
    cancelled.cancel()
    assert await waiting == b"waiting"


async def test_late_answer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The late answer to a command that timed out does not become the answer to the next."""
    async with EmbeddedStore(tmp_path, durable=False) as process, opened(process.url) as store:
        await store.call("ECHO", "before")
        monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.2)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                await store.call("ECHO", "late")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        monkeypatch.setattr(transport, "ANSWER_SECONDS", 5.0)
        assert [await store.call("ECHO", n) for n in range(3)] == [b"0", b"1", b"2"]


async def test_cut_connection_is_opened_again(store: Store) -> None:
    await store.call("ECHO", "before")
    await store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert await store.call("ECHO", "after") == b"after"


async def test_flushed_scripts_are_loaded_again(store: Store) -> None:
    await store.redis.script_flush()
    assert await store.script("outbox_read", 0, "older", "alice", "", 1) == [[b"0", 0]]


async def test_closing_cancels_waiting_commands(store: Store) -> None:
    answer = store.call("ECHO", "unsent")
    await store.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(answer, 5)
