"""A failover: servers leave the demoted primary, which keeps running, for the new primary."""

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
from tests.nodes import SENTINEL_SERVICE, Node, Switch, primary_with_replica, sentinel
from tests.serving import Service, expect_refusal, refusal_of, wait_until


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Service]:
    service = await Service.start(url, None)
    try:
        yield service
    finally:
        await service.stop()


async def feed_if_available(service: Service, user: str) -> list[str] | None:
    """Return a feed, or None while the store is not available. Raise any other error."""
    try:
        return await service.feed(user)
    except grpc.aio.AioRpcError as error:
        if refusal_of(error).reason != "STORE_UNAVAILABLE":
            raise
        return None


async def post_when_available(service: Service, actor: str) -> str:
    """Post as soon as the store is available; return the id."""
    ids: list[str] = []

    async def has_posted() -> bool:
        try:
            ids.append(await service.post(actor))
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).reason != "STORE_UNAVAILABLE":
                raise
        return bool(ids)

    await wait_until(has_posted)
    return ids[0]


async def test_demoted_primary_is_neither_read_nor_written(tmp_path: Path) -> None:
    """Its data is old: calls fail until the node is a primary again."""
    async with primary_with_replica(tmp_path) as (old, new), served(old.url) as service:
        first = await service.post("alice")
        await service.warm("alice")
        await new.promote()
        await old.follow(new)
        await until_feed(service, "alice", None)
        for _ in range(3):
            assert (await expect_refusal(service.page("alice"))).reason == "STORE_UNAVAILABLE"
            assert (await expect_refusal(service.post("alice"))).reason == "STORE_UNAVAILABLE"
        await old.promote()
        second = await post_when_available(service, "alice")
        assert await service.feed("alice") == [second, first]


async def test_server_follows_its_address_to_a_new_primary(tmp_path: Path) -> None:
    """Connections to the demoted primary stay open, and the node still answers reads on them."""
    async with (
        primary_with_replica(tmp_path) as (old, new),
        Switch(old) as switch,
        served(switch.url) as service,
    ):
        await service.follow("bob", "alice")
        deleted = await service.post("alice")
        assert await service.feed("bob") == [deleted]
        stream = await service.subscribe("bob")
        switch.target = new
        await new.promote()
        await old.follow(new)
        async with served(new.url) as other:
            await other.delete(deleted, "alice")
            await until_feed(service, "bob", [])
            # The stream's log belongs to an earlier incarnation: the new primary may lack writes.
            await stream.close()
            stream = await service.subscribe("bob")
            posted = await post_when_available(other, "alice")
            assert await stream.read_event() == ("added", posted)
        await wait_until(lambda: listens(service, new))
        await stream.close()


async def until_feed(service: Service, user: str, expected: list[str] | None) -> None:
    """Wait for a feed; None: for the store to be unavailable."""

    async def is_expected() -> bool:
        return await feed_if_available(service, user) == expected

    await wait_until(is_expected)


async def listens(service: Service, node: Node) -> bool:
    """Return whether a server listens for wake-ups at a node."""
    return service.server.engine.live._wakeups.echo_channel in await node.redis.pubsub_channels()


@pytest.mark.parametrize("how", ["asked", "paused"])
async def test_server_follows_the_primary_that_sentinels_name(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``asked``: an operator asks for it. ``paused``: the primary hangs, and resumes late."""
    caplog.set_level("INFO", "feedsvc")
    async with (
        primary_with_replica(tmp_path) as (old, new),
        sentinel(tmp_path / "sentinel", old) as sentinel_client,
        served(address(sentinel_client)) as service,
    ):
        await service.follow("bob", "alice")
        first = await service.post("alice")
        await service.warm("bob")
        stream = await service.subscribe("bob")

        async def is_failover_accepted() -> bool:
            try:
                await sentinel_client.execute_command("SENTINEL", "FAILOVER", SENTINEL_SERVICE)
            except ResponseError:  # the Sentinel does not know a suitable replica yet
                return False
            return True

        if how == "asked":
            await wait_until(is_failover_accepted)
        else:
            old.process.pause()

        async def role(node: Node) -> str:
            """Return a node's role; "" if a Sentinel, changing it, closed the connection."""
            with contextlib.suppress(RedisConnectionError):
                return str((await node.redis.info("replication"))["role"])
            return ""

        async def new_is_primary() -> bool:
            return await role(new) == "master"

        async def old_is_replica() -> bool:
            return await role(old) == "slave"

        await wait_until(new_is_primary)
        if how == "asked":  # until its demotion the old primary takes writes, which are then lost
            await wait_until(old_is_replica)
        second = await post_when_available(service, "alice")
        await until_feed(service, "bob", [second, first])
        old.process.resume()
        await wait_until(old_is_replica)

        async def is_logged() -> bool:
            end = f"is 127.0.0.1:{new.port} now, not 127.0.0.1:{old.port}"
            return any(record.getMessage().endswith(end) for record in caplog.records)

        await wait_until(is_logged)
        await wait_until(lambda: listens(service, new))
        await stream.close()
        stream = await service.subscribe("bob")
        third = await service.post("alice")
        assert await stream.read_event() == ("added", third)
        assert await service.feed("bob") == [third, second, first]
        await stream.close()


def address(*sentinel_clients: Redis) -> str:
    ports = (client.connection_pool.connection_kwargs["port"] for client in sentinel_clients)
    # Nothing listens at the first address: the service asks the next.
    hosts = ",".join(["127.0.0.1:1", *(f"127.0.0.1:{port}" for port in ports)])
    return f"redis+sentinel://{hosts}/{SENTINEL_SERVICE}"


async def test_passwords_of_sentinels_and_store_are_used_and_kept_secret(tmp_path: Path) -> None:
    """The address has the store's password; its query has the Sentinels' own."""
    secret = "hunter2"  # noqa: S105 (a made-up password)
    options = ("--requirepass", secret, "--masterauth", secret)
    primary = Node(tmp_path / "a", *options)
    replica = Node(tmp_path / "b", *options)
    try:
        for node in (primary, replica):
            await node.start()
            node.redis = Redis(port=node.port, password=secret, decode_responses=True)
        await replica.follow(primary)
        auth = f"sentinel auth-pass {SENTINEL_SERVICE} {secret}"
        async with sentinel(tmp_path / "sentinel", primary, auth) as sentinel_client:
            hosts = address(sentinel_client).removeprefix("redis+sentinel://")
            async with served(f"redis+sentinel://:{secret}@{hosts}") as service:
                first = await service.post("alice")
                assert await service.feed("alice") == [first]
                assert secret not in repr(service.server.config)
                assert secret not in repr(service.server.engine.store.redis)
    finally:
        for node in (primary, replica):
            await node.stop()


async def test_all_calls_for_a_job_reach_the_store_that_it_was_taken_from(tmp_path: Path) -> None:
    """A push over the worker's other connection, still to the old primary, would be lost."""
    async with primary_with_replica(tmp_path) as (old, new), Switch(old) as switch:
        # The job takes more calls than the worker makes over one connection.
        limits = Limits(shards=8, inline_audience=1, push_chunk=1)
        service = await Service.start(switch.url, limits, workers=0)
        try:
            followers = [f"f{number}" for number in range(16)]
            await service.follow_all([(follower, "alice") for follower in followers])
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
            for follower in followers:
                assert await service.feed(follower) == [posted]
        finally:
            await service.stop()
