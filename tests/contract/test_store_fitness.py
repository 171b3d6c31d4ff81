"""A server refuses to start on an unfit store, and says what is wrong and what to do."""

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
from tests.harness.processes import find_free_port
from tests.nodes import Node
from tests.serving import Serve, expect_refusal, wait_until
from tests.stores import Store

SECRET = "hunter2"  # noqa: S105 (no store has this password)


async def reason_for_refusal(url: str, limits: Limits | None = None) -> str:
    """Return why a server does not start on a store."""
    with pytest.raises(StoreUnfit) as caught:
        async with Server(Config(port=0, redis_url=url, limits=limits or Limits())):
            pass
    message = str(caught.value)
    assert SECRET not in message
    assert "Traceback" not in message
    return message


@asynccontextmanager
async def changed_settings(url: str, **new_settings: str) -> AsyncIterator["Redis"]:
    """Open a client of the store; change the store's settings meanwhile."""
    async with Redis.from_url(url, protocol=2, decode_responses=True) as client:
        new_values = {name.replace("_", "-"): value for name, value in new_settings.items()}
        old_values = {name: str((await client.config_get(name))[name]) for name in new_values}
        try:
            for name, value in new_values.items():
                await client.config_set(name, value)
            yield client
        finally:
            for name, value in old_values.items():
                await client.config_set(name, value)


@asynccontextmanager
async def listener(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Listen on a port as something that is no store."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65_536):
            writer.write(answer(request))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answer_info(**info: str) -> Callable[[bytes], bytes]:
    """Return the answers of a store that only answers INFO."""

    def answer(request: bytes) -> bytes:
        answers = b""
        for command in request.split(b"*")[1:]:
            if b"INFO\r\n" in command and b"SETINFO" not in command:
                text = "".join(f"{name}:{value}\r\n" for name, value in info.items()).encode()
                answers += b"$%d\r\n%b\r\n" % (len(text), text)
            else:
                answers += b"-ERR unknown command\r\n"
        return answers

    return answer


@pytest.mark.parametrize("version", ["6.2.14", "6.9.9", "5.0.0", "2.8.24", "0.9"])
async def test_store_of_an_old_version_is_refused(version: str) -> None:
    async with listener(answer_info(redis_version=version, role="master")) as url:
        message = await reason_for_refusal(url)
    assert f"Redis {version}" in message
    assert "7.0" in message
    assert "Valkey" in message


async def test_store_of_a_new_version_is_accepted() -> None:
    """Valkey answers 7.2.4 as its Redis version, whatever its own version is."""
    for info in (
        {"redis_version": "7.0.0"},
        {"redis_version": "10.1"},
        {"redis_version": "7.2.4", "valkey_version": "8.0.1"},
        {"redis_version": "255.255.255"},
    ):
        async with listener(answer_info(**info)) as url:
            message = await reason_for_refusal(url)
        assert message.startswith("the store does not let us work"), info


async def test_unreachable_store_is_refused(tmp_path: Path) -> None:
    async with listener(bytes) as closed:
        pass
    for url in (closed, f"unix://{tmp_path}/none.sock", f"unix://{tmp_path}"):
        message = await reason_for_refusal(url)
        assert "cannot be reached" in message
        assert "--redis-url" in message


async def test_server_that_is_no_store_is_refused() -> None:
    def answer_http(request: bytes) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    async with listener(answer_http) as url:
        assert "--redis-url" in await reason_for_refusal(url)


@pytest.mark.every_store
async def test_store_that_evicts_is_refused(store_url: str) -> None:
    """A store that evicts only expiring keys is refused too: request ids and tombstones expire."""
    for policy in ("allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"):
        async with changed_settings(store_url, maxmemory_policy=policy) as client:
            assert await reason_for_refusal(store_url) == (
                f"the store evicts keys when memory is short (maxmemory-policy {policy}), and "
                "would lose activities or repeat requests: run `CONFIG SET maxmemory-policy "
                "noeviction` on the store, and set it in the store's configuration too"
            )
            assert await client.dbsize() == 0


async def test_replica_is_refused(store: Store, tmp_path: Path) -> None:
    async with (
        EmbeddedStore(tmp_path, durable=False) as replica,
        Redis.from_url(replica.url) as client,
    ):
        await client.replicaof("127.0.0.1", 1)
        message = await reason_for_refusal(replica.url)
        assert "replica" in message
        assert "primary" in message


@pytest.mark.every_store
async def test_store_with_another_number_of_shards_is_refused(store_url: str, serve: Serve) -> None:
    service = await serve(limits=Limits(shards=4))
    await service.post("alice")
    stored_before = await service.dump()
    for shards in (1, 16, 256):
        message = await reason_for_refusal(store_url, Limits(shards=shards))
        assert "4 shards" in message
        assert f"not {shards}" in message
        assert "--shards 4" in message
    assert await service.dump() == stored_before
    second_service = await serve(limits=Limits(shards=4))
    assert len(await second_service.feed("alice")) == 1


@pytest.mark.every_store
async def test_store_with_another_schema_is_refused(store_url: str, serve: Serve) -> None:
    service = await serve()
    await service.store.hset(keys.META, "schema", str(keys.SCHEMA + 1))
    message = await reason_for_refusal(store_url)
    assert f"schema {keys.SCHEMA + 1}" in message
    assert f"needs {keys.SCHEMA}" in message


def make_cluster_node(folder: Path) -> Node:
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    return Node(folder, *options, "--cluster-port", str(find_free_port()))


async def meet(node: Node, other: Node) -> None:
    """Make two nodes one cluster and wait until both know all slots."""
    bus = int((await other.redis.config_get("cluster-port"))["cluster-port"])
    await node.redis.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)

    async def know_all_slots() -> bool:
        infos = [await member.redis.cluster("INFO") for member in (node, other)]
        states = {(info["cluster_slots_assigned"], info["cluster_state"]) for info in infos}
        return states == {("16384", "ok")}

    await wait_until(know_all_slots)


async def test_cluster_of_several_nodes_is_refused(tmp_path: Path) -> None:
    """A node that owns no slot refuses as well, although another node owns all."""
    nodes = [make_cluster_node(tmp_path / name) for name in ("a", "b")]
    try:
        for node in nodes:
            await node.start()
        messages = [await reason_for_refusal(node.url) for node in nodes]  # no node owns a slot
        for node, first_slot, last_slot in ((nodes[0], 0, 8_000), (nodes[1], 8_001, 16_383)):
            await node.redis.execute_command("CLUSTER", "ADDSLOTSRANGE", first_slot, last_slot)
        messages += [await reason_for_refusal(node.url) for node in nodes]
        await meet(*nodes)
        messages += [await reason_for_refusal(node.url) for node in nodes]
    finally:
        for node in nodes:
            await node.stop()
    assert set(messages) == {fitness.ONE_NODE}


async def test_node_without_slots_is_refused(tmp_path: Path) -> None:
    nodes = [make_cluster_node(tmp_path / name) for name in ("a", "b")]
    try:
        for node in nodes:
            await node.start()
        await nodes[0].redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await meet(*nodes)
        assert await reason_for_refusal(nodes[1].url) == fitness.ONE_NODE
    finally:
        for node in nodes:
            await node.stop()


def with_user(url: str, acl_user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{acl_user}:{password}@{parts.netloc}"))


@asynccontextmanager
async def acl_user(url: str, name: str, *rules: str) -> AsyncIterator[None]:
    """Create an account of the store."""
    async with Redis.from_url(url) as client:
        await client.execute_command("ACL", "SETUSER", name, "reset", "on", *rules)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            await client.acl_deluser(name)


@pytest.mark.every_store
async def test_wrong_password_is_refused(store_url: str) -> None:
    async with acl_user(store_url, "feedsvc", ">right", "~*", "&*", "+@all"):
        message = await reason_for_refusal(with_user(store_url, "feedsvc", SECRET))
        assert "password" in message
        assert "--redis-url" in message
        async with Server(Config(port=0, redis_url=with_user(store_url, "feedsvc", "right"))):
            pass


@pytest.mark.every_store
async def test_missing_password_is_refused(store_url: str) -> None:
    async with changed_settings(store_url, requirepass=SECRET):
        assert "password" in await reason_for_refusal(store_url)


@pytest.mark.every_store
@pytest.mark.parametrize("rule", ["-@write", "-@scripting", "-info", "~other:*"])
async def test_account_without_needed_permissions_is_refused(store_url: str, rule: str) -> None:
    rules = (
        (">right", rule, "&*", "+@all") if rule[0] == "~" else (">right", "~*", "&*", "+@all", rule)
    )
    async with acl_user(store_url, "feedsvc", *rules):
        message = await reason_for_refusal(with_user(store_url, "feedsvc", "right"))
        assert "the store does not let us work" in message


@pytest.mark.every_store
async def test_refused_start_leaves_no_task_running(store_url: str) -> None:
    async with changed_settings(store_url, maxmemory_policy="allkeys-lru") as client:
        tasks_before = asyncio.all_tasks()
        await reason_for_refusal(store_url)
        assert asyncio.all_tasks() == tasks_before
        await client.ping()
        assert (
            len([connection for connection in await client.client_list() if connection["id"]]) >= 1
        )


@pytest.mark.every_store
async def test_full_store_refuses_writes_and_serves_reads(serve: Serve) -> None:
    """Until an operator acts, callers must try again later; no write takes effect in part."""
    service = await serve()
    await service.follow("bob", "alice")
    activity_id = await service.post("alice")
    await service.warm("bob", "alice")
    stored_before = await service.dump()

    def make_writes() -> list[Awaitable[object]]:
        return [
            service.post("alice", request_id="r"),
            service.follow("bob", "carol"),
            service.delete(activity_id, "alice"),
        ]

    await service.store.config_set("maxmemory", "1")
    try:
        for write in make_writes():
            refusal = await expect_refusal(write)
            assert refusal.reason == "STORE_UNAVAILABLE"
            assert "OOM" not in refusal.message
        assert await service.feed("bob") == [activity_id]
        assert await service.counts("alice") == (1, 0)
    finally:
        await service.store.config_set("maxmemory", "0")
    assert await service.dump() == stored_before
    for write in make_writes():
        await write
