"""Notes of what outboxes let go: carried in bulk, by one process a shard, never lost."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from feedsvc.config import Limits
from feedsvc.core import keys, retention
from feedsvc.core.engine import Engine
from feedsvc.core.store import Store
from feedsvc.errors import StoreUnavailable
from tests.serving import Serve, until

SHARDS = 16
TAGS = keys.tags(SHARDS)


@pytest.fixture
async def engines(store_url: str) -> AsyncIterator[list[Engine]]:
    """Two processes on the store, which do nothing by themselves."""
    stores = [Store.at(store_url, Limits()) for _ in range(2)]
    for store in stores:
        await store.open()
    yield [Engine.on(store) for store in stores]
    for store in stores:
        await store.close()


async def leave(store: Store, shard: int, count: int, first: int = 0) -> None:
    """Leave notes in a shard, about activities of all shards."""
    numbers = range(first, first + count)
    notes = [f"{(1 << 60) + number} outbox:{shard}" for number in numbers]
    await store.call("RPUSH", keys.let_go(TAGS[shard]), *notes)


async def left(store: Store) -> int:
    return sum([await store.call("LLEN", keys.let_go(tag)) for tag in TAGS])


class Watch:
    """Counts the calls of scripts, and the notes that were carried."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
        self.calls: Counter[str] = Counter()
        self.carried: Counter[bytes] = Counter()
        script = engine.store.script

        async def watched(name: str, *arguments: Any, **rest: Any) -> Any:
            self.calls[name] += 1
            if name == "bodies_release":
                self.carried.update(one for one in arguments if isinstance(one, bytes))
            for _ in range(times):
                answer = await script(name, *arguments, **rest)
            return answer

        monkeypatch.setattr(engine.store, "script", watched)

    def ids(self) -> set[int]:
        return {int(one) for one in self.carried if one.isdigit()}


@pytest.mark.every_store
async def test_notes_are_carried_in_bulk(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engines
    await leave(engine.store, 3, 1_000)
    await leave(engine.store, 7, 300, first=5_000)
    watch = Watch(engine, monkeypatch)
    assert await engine.retention.carry() == 1_300
    assert await left(engine.store) == 0
    assert watch.ids() == {(1 << 60) + n for n in (*range(1_000), *range(5_000, 5_300))}
    if not engine.store.cluster:
        assert watch.calls.total() < 40


@pytest.mark.every_store
async def test_processes_do_not_repeat_each_others_work(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = engines
    await leave(first.store, 3, 5)
    assert await first.retention._carry_some() == 5
    await leave(first.store, 7, 5, first=100)
    watch = Watch(second, monkeypatch)
    assert await second.retention.carry() == 5
    assert watch.ids() == {(1 << 60) + n for n in range(100, 105)}


@pytest.mark.every_store
async def test_notes_of_a_process_that_died_are_carried_again(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has only been slow drops nothing that others have by now."""
    first, second = engines
    await leave(first.store, 3, 5)
    assert await first.retention._carry_some() == 5
    await first.store.call("DEL", f"{TAGS[3]}G")  # its time is over
    watch = Watch(second, monkeypatch)
    assert await second.retention._carry_some() == 5
    assert await first.retention._carry_some() == 0
    assert await left(first.store) == 5
    await leave(first.store, 3, 5, first=100)
    assert await second.retention.carry() == 5
    assert watch.ids() == {(1 << 60) + n for n in (*range(5), *range(100, 105))}
    assert await left(first.store) == 0


@pytest.mark.every_store
async def test_no_note_is_lost_with_a_reply(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection runs a script again whose reply was lost."""
    engine, _ = engines
    await leave(engine.store, 3, 500)
    watch = Watch(engine, monkeypatch, times=2)
    assert await engine.retention.carry() == 500
    assert watch.ids() == {(1 << 60) + n for n in range(500)}


async def test_servers_carry_without_a_pause_and_after_an_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve()
    engine = service.server.engine
    monkeypatch.setattr(retention, "TRY_AGAIN_SECONDS", 0.01)
    store = engine.retention._store
    script = store.script
    failures = [StoreUnavailable("away"), ValueError("a defect")]

    async def fails(*arguments: Any, **rest: Any) -> Any:
        if failures:
            raise failures.pop()
        return await script(*arguments, **rest)

    monkeypatch.setattr(store, "script", fails)
    for shard in range(SHARDS):
        await leave(engine.store, shard, 1_000)

    async def none_left() -> bool:
        return await left(engine.store) == 0

    await until(none_left)
    assert not failures
