"""Background tasks that stall or die: the server notices, and every client is still served."""

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest

from feedsvc.core import wakeups
from feedsvc.core.live import Live
from feedsvc.core.streams import Stream
from feedsvc.core.wakeups import WakeUps
from tests.nodes import Node, Switch
from tests.serving import Serve, Service, wait_until

#: Seconds, longer than any test: only a wake-up makes a stream read its log.
NEVER = 290


async def test_stream_gets_events_although_the_wake_up_connection_stalls(store_url: str) -> None:
    """Pitfall: a pub/sub connection stays open but brings nothing, and the stream stays silent."""
    async with Switch(unquote(store_url.removeprefix("unix://"))) as switch:
        service = await Service.start(switch.url, None, checkpoint_seconds=NEVER)
        try:
            stream = await service.subscribe("bob")
            first_id = await service.post("bob")
            assert await stream.read_event() == ("added", first_id)
            for _ in range(2):
                switch.silence_subscribers()
                activity_id = await service.post("bob")
                assert await stream.read_event() == ("added", activity_id)
            await stream.close()
        finally:
            await service.stop()


async def test_channel_that_the_store_refuses_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wakeups, "SILENT_SECONDS", 1.0)
    caplog.set_level(logging.INFO, "feedsvc")
    node = Node(tmp_path / "store")
    await node.start()
    service = await Service.start(node.url, None)

    def messages() -> list[str]:
        return [record.getMessage() for record in caplog.records if "wakeups" in record.name]

    async def is_logged(count: int) -> bool:
        return len(messages()) >= count

    try:
        await (await service.subscribe("bob")).close()
        await node.redis.execute_command("ACL", "SETUSER", "default", "-subscribe")
        await node.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await wait_until(partial(is_logged, 1))
        await node.redis.execute_command("ACL", "SETUSER", "default", "+subscribe")
        await wait_until(partial(is_logged, 2))
    finally:
        await service.stop()
        await node.stop()
    silent, works = messages()
    assert re.sub(r"for \d+ s", "for N s", silent) == (
        "the store's channel for wake-ups has not worked for N s: NoPermissionError: User default "
        "has no permissions to run the 'subscribe' command. Live events come late, with the "
        "heartbeats of their streams. Check that the store's user may subscribe to channels"
    )
    assert works == "the store's channel for wake-ups works again"


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (WakeUps, "_listen"),
        (WakeUps, "_until_deaf"),
        (Live, "_cut_slow"),
        (Live, "_read_wanted"),
    ],
)
async def test_background_task_that_dies_is_started_again(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    method: str,
) -> None:
    """Pitfall: a defect kills a background task once, and no stream gets events after that.

    The tasks are the listener, the clock and the reader.
    """
    deaths = []
    original_method: Callable[..., Awaitable[None]] = getattr(owner, method)

    def defect(*arguments: object) -> Awaitable[None]:
        if not deaths:
            deaths.append(method)
            raise ZeroDivisionError
        return original_method(*arguments)

    monkeypatch.setattr(owner, method, defect)
    service = await serve(checkpoint_seconds=0.1)
    stream = await service.subscribe("bob")

    async def died() -> bool:
        return bool(deaths) and any("died" in record.getMessage() for record in caplog.records)

    await wait_until(died)
    activity_id = await service.post("bob")
    assert await stream.read_event() == ("added", activity_id)
    assert (await stream.read_message()).HasField("heartbeat")  # a checkpoint: the clock still runs
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    await stream.close()


async def test_defect_of_one_stream_does_not_stop_the_clock(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall: a defect of one stream stops the clock that all streams share.

    The clock starts again. It then fires the broken streams and all others that were due.
    """
    service = await serve(checkpoint_seconds=0.1)
    streams = [await service.subscribe(f"u{number}") for number in range(20)]
    broken_streams: list[Stream] = []
    original_fire = Stream.fire

    def defect(stream: Stream) -> None:
        if len(broken_streams) < 3:
            broken_streams.append(stream)
            raise ZeroDivisionError
        original_fire(stream)

    monkeypatch.setattr(Stream, "fire", defect)

    async def all_broke() -> bool:
        return len(broken_streams) == 3

    await wait_until(all_broke)
    for stream in streams:
        assert (await stream.read_message()).HasField("heartbeat")  # a checkpoint
        await stream.close()
