"""What runs in the background of a server stalls or dies: nobody who is served is left behind."""

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import pytest

from feedsvc.core.live import Live
from feedsvc.core.streams import Stream
from tests.nodes import Switch
from tests.serving import Serve, Service, until

#: Longer than any test: only wake-ups tell that there is something to read.
NEVER = 290


async def test_stalled_channel_is_noticed(store_url: str) -> None:
    """The connection stays open and brings nothing."""
    async with Switch(unquote(store_url.removeprefix("unix://"))) as switch:
        service = await Service.start(switch.url, None, checkpoint_seconds=NEVER)
        try:
            stream = await service.subscribe("bob")
            first = await service.post("bob")
            assert await stream.event() == ("added", first)
            for _ in range(2):
                switch.deafen()
                posted = await service.post("bob")
                assert await stream.event() == ("added", posted)
            await stream.close()
        finally:
            await service.stop()


@pytest.mark.parametrize("method", ["_hear", "_until_deaf", "_cut", "_read_wanted"])
async def test_task_that_dies_is_started_again(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """The listener, the clock and the reader, each killed by a defect."""
    deaths = []
    real: Callable[..., Awaitable[None]] = getattr(Live, method)

    def defect(*arguments: object) -> Awaitable[None]:
        if not deaths:
            deaths.append(method)
            raise ZeroDivisionError
        return real(*arguments)

    monkeypatch.setattr(Live, method, defect)
    service = await serve(checkpoint_seconds=0.1)
    stream = await service.subscribe("bob")

    async def died() -> bool:
        return bool(deaths) and any("died" in one.getMessage() for one in caplog.records)

    await until(died)
    posted = await service.post("bob")
    assert await stream.event() == ("added", posted)
    assert (await stream.message()).HasField("heartbeat")  # a checkpoint: the clock goes
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 1
    await stream.close()


async def test_defect_of_one_stream_stops_no_clock(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due in that moment, and that stream too, is fired when the clock goes again."""
    service = await serve(checkpoint_seconds=0.1)
    streams = [await service.subscribe(f"u{number}") for number in range(20)]
    broken: list[Stream] = []
    fire = Stream.fire

    def defect(stream: Stream) -> None:
        if len(broken) < 3:
            broken.append(stream)
            raise ZeroDivisionError
        fire(stream)

    monkeypatch.setattr(Stream, "fire", defect)

    async def all_broke() -> bool:
        return len(broken) == 3

    await until(all_broke)
    for stream in streams:
        assert (await stream.message()).HasField("heartbeat")  # a checkpoint
        await stream.close()
