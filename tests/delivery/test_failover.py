"""A failover: servers leave the demoted primary, which goes on running, and follow the new one."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from activityfeed.v1.activity_service_pb2 import DELIVERY_STATE_DELIVERED
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from feedsvc.config import Limits
from tests.nodes import SERVICE, Node, Switch, pair, sentinel
from tests.serving import Service, refusal_of, refused, until


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Service]:
    service = await Service.start(url, None)
    try:
        yield service
    finally:
        await service.stop()


async def feed_or_nothing(service: Service, user: str) -> list[str] | None:
    """A feed; None while the store is not available, which is all that may go wrong."""
    try:
        return await service.feed(user)
    except grpc.aio.AioRpcError as error:
        if refusal_of(error).reason != "STORE_UNAVAILABLE":
            raise
        return None


async def posted(service: Service, actor: str) -> str:
    """Posts as soon as the store is available."""
    ids: list[str] = []

    async def done() -> bool:
        try:
            ids.append(await service.post(actor))
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).reason != "STORE_UNAVAILABLE":
                raise
        return bool(ids)

    await until(done)
    return ids[0]


async def test_demoted_primary_is_not_read(tmp_path: Path) -> None:
    """Its answers are old: nothing is answered until it is a primary again."""
    async with pair(tmp_path) as (old, new), served(old.url) as service:
        first = await service.post("alice")
        await service.warm("alice")
        await new.promote()
        await old.follow(new)

        async def unavailable() -> bool:
            return await feed_or_nothing(service, "alice") is None

        await until(unavailable)
        for _ in range(3):
            assert (await refused(service.page("alice"))).reason == "STORE_UNAVAILABLE"
            assert (await refused(service.post("alice"))).reason == "STORE_UNAVAILABLE"
        await old.promote()
        second = await posted(service, "alice")
        assert await service.feed("alice") == [second, first]


async def test_address_that_is_pointed_elsewhere_is_followed(tmp_path: Path) -> None:
    """Connections to the demoted primary stay open, and it still answers reads on them."""
    async with pair(tmp_path) as (old, new), Switch(old) as switch, served(switch.url) as service:
        await service.follow("bob", "alice")
        gone = await service.post("alice")
        assert await service.feed("bob") == [gone]
        stream = await service.subscribe("bob")
        switch.target = new
        await new.promote()
        await old.follow(new)
        async with served(new.url) as other:
            await other.delete(gone, "alice")
            await until_feed(service, "bob", [])
            # The stream's log is of an earlier incarnation, for the new primary may lack writes.
            await stream.close()
            stream = await service.subscribe("bob")
            told = await posted(other, "alice")
            assert await stream.event() == ("added", told)
        await until(lambda: listens(service, new))
        await stream.close()


async def until_feed(service: Service, user: str, expected: list[str]) -> None:
    async def same() -> bool:
        return await feed_or_nothing(service, user) == expected

    await until(same)


async def listens(service: Service, node: Node) -> bool:
    """Whether a server listens for wake-ups at a node."""
    return service.server.engine.live._wakeups.echo_channel in await node.redis.pubsub_channels()


@pytest.mark.parametrize("how", ["asked", "paused"])
async def test_sentinels_are_followed(tmp_path: Path, how: str) -> None:
    """``asked``: an operator's failover. ``paused``: the primary hangs, and comes back too late."""
    async with (
        pair(tmp_path) as (old, new),
        sentinel(tmp_path / "sentinel", old) as watcher,
        served(address(watcher)) as service,
    ):
        await service.follow("bob", "alice")
        first = await service.post("alice")
        await service.warm("bob")
        stream = await service.subscribe("bob")

        async def asked() -> bool:
            try:
                await watcher.execute_command("SENTINEL", "FAILOVER", SERVICE)
            except ResponseError:  # it has not heard of a replica that is good enough yet
                return False
            return True

        if how == "asked":
            await until(asked)
        else:
            old.process.pause()

        async def role(node: Node) -> str:
            """A Sentinel closes the connections of clients when it changes a node's role."""
            with contextlib.suppress(RedisConnectionError):
                return str((await node.redis.info("replication"))["role"])
            return ""

        async def promoted() -> bool:
            return await role(new) == "master"

        async def demoted() -> bool:
            return await role(old) == "slave"

        await until(promoted)
        if how == "asked":  # before that it takes writes, which are lost with its demotion
            await until(demoted)
        second = await posted(service, "alice")
        await until_feed(service, "bob", [second, first])
        old.process.resume()
        await until(demoted)
        await until(lambda: listens(service, new))
        await stream.close()
        stream = await service.subscribe("bob")
        third = await service.post("alice")
        assert await stream.event() == ("added", third)
        assert await service.feed("bob") == [third, second, first]
        await stream.close()


def address(*watchers: Redis) -> str:
    ports = (one.connection_pool.connection_kwargs["port"] for one in watchers)
    # The first is not there: the next is asked.
    hosts = ",".join(["127.0.0.1:1", *(f"127.0.0.1:{port}" for port in ports)])
    return f"redis+sentinel://{hosts}/{SERVICE}"


async def test_sentinels_and_store_have_passwords(tmp_path: Path) -> None:
    """The store's in the address, the Sentinels' own in its query."""
    secret = "hunter2"  # noqa: S105 (it opens nothing)
    options = ("--requirepass", secret, "--masterauth", secret)
    node = Node(tmp_path / "a", *options)
    replica = Node(tmp_path / "b", *options)
    try:
        for one in (node, replica):
            await one.start()
            one.redis = Redis(port=one.port, password=secret, decode_responses=True)
        await replica.follow(node)
        auth = f"sentinel auth-pass {SERVICE} {secret}"
        async with sentinel(tmp_path / "sentinel", node, auth) as watcher:
            hosts = address(watcher).removeprefix("redis+sentinel://")
            async with served(f"redis+sentinel://:{secret}@{hosts}") as service:
                first = await service.post("alice")
                assert await service.feed("alice") == [first]
                assert secret not in repr(service.server.config)
                assert secret not in repr(service.server.engine.store.redis)
    finally:
        for one in (node, replica):
            await one.stop()


async def test_all_calls_for_a_job_go_to_where_it_was_taken(tmp_path: Path) -> None:
    """A worker's other connection, still to the old primary, would push to feeds that are lost."""
    async with pair(tmp_path) as (old, new), Switch(old) as switch:
        # More calls than one connection gets done alone.
        limits = Limits(shards=8, inline_audience=1, push_chunk=1)
        service = await Service.start(switch.url, limits, workers=0)
        try:
            followers = [f"f{number}" for number in range(16)]
            await service.follow_all([(one, "alice") for one in followers])
            engine = service.server.engine
            first, other = engine.workers._store, engine.workers._store.sibling()
            engine.workers._turns.put(other)
            for store in (first, other):
                await store.call("TIME")
            switch.target = new
            await new.promote()
            for store in (engine.store, first):
                assert store._transport.connection is not None
                await store._transport.connection.disconnect()
            await service.warm(*followers)
            posted = await service.post("alice")
            assert await engine.workers.work() > 0
            assert (await service.delivery(posted)).state == DELIVERY_STATE_DELIVERED
            for one in followers:
                assert await service.feed(one) == [posted]
        finally:
            await service.stop()
