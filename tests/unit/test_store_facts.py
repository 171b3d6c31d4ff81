"""The facts that a process reads from its store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from feedsvc.config import Limits
from feedsvc.core import keys
from feedsvc.core.store import Store
from feedsvc.core.store_facts import FactsReader, KeySample, Persistence
from feedsvc.embedded import EmbeddedStore, find_server
from tests.nodes import Node


@asynccontextmanager
async def reader_of(url: str) -> AsyncIterator[FactsReader]:
    store = Store.at(url, Limits())
    await store.open()
    reader = FactsReader(store.sibling())
    try:
        yield reader
    finally:
        await reader.close()
        await store.close()


@pytest.mark.every_store
async def test_facts_are_those_of_the_store(store_url: str) -> None:
    async with reader_of(store_url) as reader, Redis.from_url(store_url) as redis:
        await redis.config_set("maxmemory", 1 << 40)
        try:
            facts = await reader.facts()
        finally:
            await redis.config_set("maxmemory", 0)
        info = await redis.info()
        product = "Valkey" if "valkey_version" in info else "Redis"
        assert facts is not None
        assert (facts.product, facts.version) == (product, info[f"{product.lower()}_version"])
        assert (facts.max_memory, facts.eviction_policy) == (1 << 40, "noeviction")
        assert facts.keys == await redis.dbsize() > 0
        assert facts.used_memory > 100_000
        assert facts.replicas == 0
        assert facts.persistence is Persistence.NONE


@pytest.mark.parametrize(
    ("settings", "persistence"),
    [
        ({}, Persistence.SYNCED_ALWAYS),
        ({"appendfsync": "everysec"}, Persistence.SYNCED_EVERY_SECOND),
        ({"appendfsync": "no"}, Persistence.NOT_SYNCED),
        ({"appendonly": "no", "save": "3600 1"}, Persistence.SNAPSHOTS),
        ({"appendonly": "no"}, Persistence.NONE),
    ],
)
async def test_persistence_is_what_the_store_does(
    tmp_path: Path, settings: dict[str, str], persistence: Persistence
) -> None:
    async with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as redis:
        for name, value in settings.items():
            await redis.config_set(name, value)
        async with reader_of(store.url) as reader:
            facts = await reader.facts()
    assert facts is not None
    assert facts.persistence is persistence


@pytest.mark.parametrize(
    ("appendonly", "persistence"),
    [("yes", Persistence.APPEND_ONLY_FILE), ("no", Persistence.SNAPSHOTS)],
)
async def test_store_that_forbids_config_leaves_only_the_sync_unknown(
    tmp_path: Path, appendonly: str, persistence: Persistence
) -> None:
    node = Node(tmp_path / "store", "--appendonly", appendonly)
    await node.start()
    try:
        await node.redis.execute_command(
            *("ACL", "SETUSER", "default", "-config"),
        )
        async with reader_of(node.url) as reader:
            facts = await reader.facts()
    finally:
        await node.stop()
    assert facts is not None
    assert facts.persistence is persistence
    assert facts.product.lower() == find_server().name


async def test_gone_store_keeps_its_last_facts(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store, reader_of(store.url) as reader:
        facts = await reader.facts()
        assert facts is not None
        await store.stop()
        reader._began = 0.0  # the facts are no longer fresh
        assert await reader.facts() == facts
        assert await reader.sample_keys() is None
        never_read = FactsReader(reader._store)
        assert await never_read.facts() is None


async def test_callers_share_one_reading(store_url: str) -> None:
    """The store gets one DBSIZE however many callers ask."""
    async with reader_of(store_url) as reader, Redis.from_url(store_url) as redis:
        began = asyncio.get_running_loop().time()
        await redis.config_resetstat()
        answers = await asyncio.gather(*(reader.facts() for _ in range(100)))
        answers += [await reader.facts() for _ in range(100)]
        commands = await redis.info("commandstats")
        seconds = asyncio.get_running_loop().time() - began
    assert None not in answers
    assert commands["cmdstat_dbsize"]["calls"] <= 1 + seconds


async def test_reading_survives_the_caller_that_began_it(store_url: str) -> None:
    async with reader_of(store_url) as reader:
        first = asyncio.create_task(reader.facts())
        await asyncio.sleep(0)
        second = asyncio.create_task(reader.facts())
        first.cancel()
        assert await second is not None


@pytest.mark.every_store
async def test_sample_counts_the_keys_of_other_programs(store_url: str) -> None:
    async with reader_of(store_url) as reader, Redis.from_url(store_url) as redis:
        own_keys = await redis.dbsize()
        assert await reader.sample_keys() == KeySample(own_keys, 0)
        for name in ("session:1", "{0}", "{0}wake", "{0}z:bob", "{99999}e:bob", "feedsvc:x"):
            await redis.set(name, 1)
        assert await reader.sample_keys() == KeySample(own_keys + 6, 6)


async def test_sample_is_bounded(store_url: str) -> None:
    """A look at a large database takes the store a moment, and covers a part of the keys."""
    async with reader_of(store_url) as reader, Redis.from_url(store_url) as redis:
        await redis.mset({f"other:{number}": 1 for number in range(5_000)})
        sample = await reader.sample_keys()
    assert sample is not None
    assert 900 < sample.sampled < 1_500
    assert sample.foreign > 0.9 * sample.sampled


def test_every_kind_of_key_is_the_services_own() -> None:
    tags = keys.tags(16)
    for kind in keys.KINDS:
        name = kind.letter if kind.is_single else f"{kind.letter}:bob"
        assert keys.is_own(tags[3] + name, tags), kind
    assert keys.is_own(keys.feed(tags[3], "bob", "abc"), tags)
    assert keys.is_own(keys.META, tags)
    assert keys.is_own(keys.LATEST, tags)
