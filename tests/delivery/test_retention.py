"""Notes of ids that outboxes dropped: one process a shard carries them in bulk, none is lost."""

from collections import Counter
from typing import Any

import pytest

from feedsvc.config import Limits
from feedsvc.core import keys, retention
from feedsvc.core.engine import Engine
from feedsvc.core.store import Store
from feedsvc.errors import StoreUnavailable
from tests.delivery.conftest import OpenEngine
from tests.serving import Serve, wait_until

SHARDS = 16
TAGS = keys.tags(SHARDS)


@pytest.fixture
async def engines(open_engine: OpenEngine) -> list[Engine]:
    """Return the engines of two processes that do nothing by themselves."""
    return [await open_engine(Limits()) for _ in range(2)]


async def add_notes(store: Store, shard: int, count: int, first: int = 0) -> None:
    """Add notes to a shard, about activities of all shards."""
    numbers = range(first, first + count)
    notes = [f"{(1 << 60) + number} outbox:{shard}" for number in numbers]
    await store.call("RPUSH", keys.trim_notes(TAGS[shard]), *notes)


async def note_count(store: Store) -> int:
    return sum([await store.call("LLEN", keys.trim_notes(tag)) for tag in TAGS])


class Recorder:
    """Counts the calls of an engine's scripts, and the notes that they carry.

    Each call runs its script as often as `runs`.
    """

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, runs: int = 1) -> None:
        self.calls: Counter[str] = Counter()
        self.carried: Counter[bytes] = Counter()
        script = engine.store.script

        async def recorded_script(name: str, *arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if name == "bodies_release":
                self.carried.update(note for note in arguments if isinstance(note, bytes))
            for _ in range(runs):
                answer = await script(name, *arguments, **options)
            return answer

        monkeypatch.setattr(engine.store, "script", recorded_script)

    def ids(self) -> set[int]:
        return {int(note) for note in self.carried if note.isdigit()}


@pytest.mark.every_store
async def test_notes_are_carried_in_bulk(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engines
    await add_notes(engine.store, 3, 1_000)
    await add_notes(engine.store, 7, 300, first=5_000)
    recorder = Recorder(engine, monkeypatch)
    assert await engine.retention.carry() == 1_300
    assert await note_count(engine.store) == 0
    assert recorder.ids() == {(1 << 60) + n for n in (*range(1_000), *range(5_000, 5_300))}
    if not engine.store.cluster:
        assert recorder.calls.total() < 40


@pytest.mark.every_store
async def test_process_does_not_carry_notes_that_another_process_carries(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = engines
    await add_notes(first.store, 3, 5)
    assert await first.retention._carry_some() == 5
    await add_notes(first.store, 7, 5, first=100)
    recorder = Recorder(second, monkeypatch)
    assert await second.retention.carry() == 5
    assert recorder.ids() == {(1 << 60) + n for n in range(100, 105)}


@pytest.mark.every_store
async def test_notes_of_a_dead_process_are_carried_again(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was only slow: it drops no note that another process carries by now."""
    first, second = engines
    await add_notes(first.store, 3, 5)
    assert await first.retention._carry_some() == 5
    await first.store.call("DEL", f"{TAGS[3]}G")  # the time of the process to carry the notes ends
    recorder = Recorder(second, monkeypatch)
    assert await second.retention._carry_some() == 5
    assert await first.retention._carry_some() == 0
    assert await note_count(first.store) == 5
    await add_notes(first.store, 3, 5, first=100)
    assert await second.retention.carry() == 5
    assert recorder.ids() == {(1 << 60) + n for n in (*range(5), *range(100, 105))}
    assert await note_count(first.store) == 0


@pytest.mark.every_store
async def test_no_note_is_lost_when_a_reply_is_lost(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection repeats a script if the reply was lost."""
    engine, _ = engines
    await add_notes(engine.store, 3, 500)
    recorder = Recorder(engine, monkeypatch, runs=2)
    assert await engine.retention.carry() == 500
    assert recorder.ids() == {(1 << 60) + n for n in range(500)}


async def test_servers_carry_notes_without_a_pause_and_after_errors(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve()
    engine = service.server.engine
    monkeypatch.setattr(retention, "TRY_AGAIN_SECONDS", 0.01)
    store = engine.retention._store
    script = store.script
    failures = [StoreUnavailable("the store is away"), ValueError("a defect")]

    async def failing_script(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await script(*arguments, **options)

    monkeypatch.setattr(store, "script", failing_script)
    for shard in range(SHARDS):
        await add_notes(engine.store, shard, 1_000)

    async def all_are_carried() -> bool:
        return await note_count(engine.store) == 0

    await wait_until(all_are_carried)
    assert not failures
