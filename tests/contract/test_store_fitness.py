"""A store that cannot be used is refused at the start, with what is wrong and what to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis

from feedsvc.config import Config, Limits
from feedsvc.core import fitness, keys
from feedsvc.embedded import EmbeddedStore
from feedsvc.errors import StoreUnfit
from feedsvc.server import Server
from tests.faults.processes import free_port
from tests.nodes import Node
from tests.serving import Serve, refused, until
from tests.stores import Store

SECRET = "hunter2"  # noqa: S105 (it opens nothing)


async def unfit(url: str, limits: Limits | None = None) -> str:
    """Why a server does not start on a store."""
    with pytest.raises(StoreUnfit) as caught:
        async with Server(Config(port=0, redis_url=url, limits=limits or Limits())):
            pass
    message = str(caught.value)
    assert SECRET not in message
    assert "Traceback" not in message
    return message


@asynccontextmanager
async def settings(url: str, **wanted: str) -> AsyncIterator["Redis"]:
    """A client of the store, which is configured otherwise meanwhile."""
    async with Redis.from_url(url, protocol=2, decode_responses=True) as client:
        names = {name.replace("_", "-"): value for name, value in wanted.items()}
        before = {name: str((await client.config_get(name))[name]) for name in names}
        try:
            for name, value in names.items():
                await client.config_set(name, value)
            yield client
        finally:
            for name, value in before.items():
                await client.config_set(name, value)


@asynccontextmanager
async def listener(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Something that is no store of ours, on a port of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(65_536):
            writer.write(answer(asked))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def pretending(**info: str) -> Callable[[bytes], bytes]:
    """A store that only answers INFO."""

    def answer(asked: bytes) -> bytes:
        answers = b""
        for command in asked.split(b"*")[1:]:
            if b"INFO\r\n" in command and b"SETINFO" not in command:
                text = "".join(f"{name}:{value}\r\n" for name, value in info.items()).encode()
                answers += b"$%d\r\n%b\r\n" % (len(text), text)
            else:
                answers += b"-ERR unknown command\r\n"
        return answers

    return answer


@pytest.mark.parametrize("version", ["6.2.14", "6.9.9", "5.0.0", "2.8.24", "0.9"])
async def test_too_old_a_store_is_refused(version: str) -> None:
    async with listener(pretending(redis_version=version, role="master")) as url:
        message = await unfit(url)
    assert f"Redis {version}" in message
    assert "7.0" in message
    assert "Valkey" in message


async def test_new_stores_are_not_too_old() -> None:
    """Valkey says 7.2.4 where it is asked for Redis' version, whatever its own is."""
    for info in (
        {"redis_version": "7.0.0"},
        {"redis_version": "10.1"},
        {"redis_version": "7.2.4", "valkey_version": "8.0.1"},
        {"redis_version": "255.255.255"},
    ):
        async with listener(pretending(**info)) as url:
            message = await unfit(url)
        assert message.startswith("the store does not let us work"), info


async def test_unreachable_store_is_refused(tmp_path: Path) -> None:
    async with listener(bytes) as closed:
        pass
    for url in (closed, f"unix://{tmp_path}/none.sock", f"unix://{tmp_path}"):
        message = await unfit(url)
        assert "cannot be reached" in message
        assert "--redis-url" in message


async def test_what_is_no_store_is_refused() -> None:
    def http(asked: bytes) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    async with listener(http) as url:
        assert "--redis-url" in await unfit(url)


@pytest.mark.every_store
async def test_evicting_store_is_refused(store_url: str) -> None:
    """Also one that evicts only what expires: request ids and tombstones do."""
    for policy in ("allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"):
        async with settings(store_url, maxmemory_policy=policy) as client:
            message = await unfit(store_url)
            assert policy in message
            assert "noeviction" in message
            assert await client.dbsize() == 0


async def test_replica_is_refused(store: Store, tmp_path: Path) -> None:
    async with (
        EmbeddedStore(tmp_path, durable=False) as replica,
        Redis.from_url(replica.url) as client,
    ):
        await client.replicaof("127.0.0.1", 1)
        message = await unfit(replica.url)
        assert "replica" in message
        assert "primary" in message


@pytest.mark.every_store
async def test_other_number_of_shards_is_refused(store_url: str, serve: Serve) -> None:
    made = await serve(limits=Limits(shards=4))
    await made.post("alice")
    before = await made.dump()
    for shards in (1, 16, 256):
        message = await unfit(store_url, Limits(shards=shards))
        assert "4 shards" in message
        assert f"not {shards}" in message
        assert "--shards 4" in message
    assert await made.dump() == before
    again = await serve(limits=Limits(shards=4))
    assert len(await again.feed("alice")) == 1


@pytest.mark.every_store
async def test_other_schema_is_refused(store_url: str, serve: Serve) -> None:
    made = await serve()
    await made.store.hset(keys.META, "schema", str(keys.SCHEMA + 1))
    message = await unfit(store_url)
    assert f"schema {keys.SCHEMA + 1}" in message
    assert f"needs {keys.SCHEMA}" in message


def clustered(folder: Path) -> Node:
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    return Node(folder, *options, "--cluster-port", str(free_port()))


async def meet(node: Node, other: Node) -> None:
    """Makes two nodes one cluster; both then know of all slots."""
    bus = int((await other.redis.config_get("cluster-port"))["cluster-port"])
    await node.redis.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)

    async def met() -> bool:
        found = [await one.redis.cluster("INFO") for one in (node, other)]
        states = {(one["cluster_slots_assigned"], one["cluster_state"]) for one in found}
        return states == {("16384", "ok")}

    await until(met)


async def test_cluster_of_several_nodes_is_refused(tmp_path: Path) -> None:
    """Also by a node that owns no slot, while another one owns all."""
    nodes = [clustered(tmp_path / name) for name in ("a", "b")]
    try:
        for node in nodes:
            await node.start()
        messages = [await unfit(node.url) for node in nodes]  # no slot is anybody's
        for node, first, last in ((nodes[0], 0, 8_000), (nodes[1], 8_001, 16_383)):
            await node.redis.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        messages += [await unfit(node.url) for node in nodes]
        await meet(*nodes)
        messages += [await unfit(node.url) for node in nodes]
    finally:
        for node in nodes:
            await node.stop()
    assert set(messages) == {fitness.ONE_NODE}


async def test_node_without_slots_is_refused(tmp_path: Path) -> None:
    nodes = [clustered(tmp_path / name) for name in ("a", "b")]
    try:
        for node in nodes:
            await node.start()
        await nodes[0].redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await meet(*nodes)
        assert await unfit(nodes[1].url) == fitness.ONE_NODE
    finally:
        for node in nodes:
            await node.stop()


def with_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc}"))


@asynccontextmanager
async def user(url: str, name: str, *rules: str) -> AsyncIterator[None]:
    """An account of the store."""
    async with Redis.from_url(url) as client:
        await client.execute_command("ACL", "SETUSER", name, "reset", "on", *rules)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            await client.acl_deluser(name)


@pytest.mark.every_store
async def test_wrong_password_is_refused(store_url: str) -> None:
    async with user(store_url, "feedsvc", ">right", "~*", "&*", "+@all"):
        message = await unfit(with_user(store_url, "feedsvc", SECRET))
        assert "password" in message
        assert "--redis-url" in message
        async with Server(Config(port=0, redis_url=with_user(store_url, "feedsvc", "right"))):
            pass


@pytest.mark.every_store
async def test_missing_password_is_refused(store_url: str) -> None:
    async with settings(store_url, requirepass=SECRET):
        assert "password" in await unfit(store_url)


@pytest.mark.every_store
@pytest.mark.parametrize("rule", ["-@write", "-@scripting", "-info", "~other:*"])
async def test_account_that_may_too_little_is_refused(store_url: str, rule: str) -> None:
    rules = (
        (">right", rule, "&*", "+@all") if rule[0] == "~" else (">right", "~*", "&*", "+@all", rule)
    )
    async with user(store_url, "feedsvc", *rules):
        message = await unfit(with_user(store_url, "feedsvc", "right"))
        assert "the store does not let us work" in message


@pytest.mark.every_store
async def test_refused_store_keeps_nothing_running(store_url: str) -> None:
    async with settings(store_url, maxmemory_policy="allkeys-lru") as client:
        before = asyncio.all_tasks()
        await unfit(store_url)
        assert asyncio.all_tasks() == before
        await client.ping()
        assert len([one for one in await client.client_list() if one["id"]]) >= 1


@pytest.mark.every_store
async def test_store_that_is_full_refuses_writes_and_serves_reads(serve: Serve) -> None:
    """An operator has to act; until then callers are told to come again, and nothing is torn."""
    service = await serve()
    await service.follow("bob", "alice")
    posted = await service.post("alice")
    await service.warm("bob", "alice")
    before = await service.dump()

    def writes() -> list[Awaitable[object]]:
        return [
            service.post("alice", request_id="r"),
            service.follow("bob", "carol"),
            service.delete(posted, "alice"),
        ]

    await service.store.config_set("maxmemory", "1")
    try:
        for write in writes():
            refusal = await refused(write)
            assert refusal.reason == "STORE_UNAVAILABLE"
            assert "OOM" not in refusal.message
        assert await service.feed("bob") == [posted]
        assert await service.counts("alice") == (1, 0)
    finally:
        await service.store.config_set("maxmemory", "0")
    assert await service.dump() == before
    for write in writes():
        await write
