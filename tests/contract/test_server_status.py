"""GetServerStatus: the state of a server and its store, in every state of the store."""

import os
import signal
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from activityfeed import FeedClient
from activityfeed.admin.v1 import admin_service_pb2 as pb

from feedsvc.config import Config
from feedsvc.core import health, keys
from feedsvc.core.health import Condition
from feedsvc.core.store_facts import Persistence
from feedsvc.embedded import EmbeddedStore
from feedsvc.server import Server
from feedsvc.services import admin
from tests.contract.test_store_states import enter_state, server_on_own_store
from tests.serving import Serve, Service, wait_until


@pytest.fixture
def short_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server check its store more often, so that tests wait less."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(health, "GONE_SECONDS", 1.0)


@pytest.mark.every_store
async def test_status_has_the_server_and_its_store(serve: Serve) -> None:
    service = await serve(workers=0, max_streams=30, max_calls=40)
    stream = await service.subscribe("bob")
    status = await service.server_status()
    assert (status.host_name, status.version) == (socket.gethostname(), version("feedsvc"))
    assert status.state == pb.SERVER_STATE_SERVING
    assert (status.stream_count, status.max_stream_count) == (1, 30)
    assert (status.call_count, status.max_call_count) == (1, 40)
    assert status.worker_count == 0
    assert status.HasField("start_time")
    store, info = status.store, await service.store.info()
    assert store.condition == pb.STORE_CONDITION_READY
    assert store.condition_time == status.start_time
    assert store.read_time.ToMilliseconds() >= status.start_time.ToMilliseconds()
    assert store.product in ("Valkey", "Redis")
    assert store.version == info[f"{store.product.lower()}_version"]
    assert store.used_memory_bytes > 100_000
    assert (store.max_memory_bytes, store.eviction_policy) == (0, "noeviction")
    assert store.persistence == pb.STORE_PERSISTENCE_NONE
    assert (store.shard_count, store.replica_count, store.embedded) == (16, 0, False)
    assert store.key_count == await service.store.dbsize()
    await stream.close()


async def test_server_with_an_embedded_store_says_so(tmp_path: Path) -> None:
    async with (
        Server(Config(port=0, data_dir=tmp_path)) as server,
        FeedClient.connect(f"127.0.0.1:{server.port}") as client,
    ):
        store = (await client.admin.GetServerStatus(pb.GetServerStatusRequest())).store
    assert store.embedded
    assert store.persistence == pb.STORE_PERSISTENCE_SYNCED_ALWAYS


@pytest.mark.usefixtures("short_checks")
@pytest.mark.parametrize(
    ("state", "condition"),
    [
        ("full", pb.STORE_CONDITION_FULL),
        ("read-only", pb.STORE_CONDITION_READ_ONLY),
        ("failing over", pb.STORE_CONDITION_REPLICA),
        ("gone", pb.STORE_CONDITION_GONE),
    ],
)
async def test_condition_of_the_store_is_reported_with_its_time(
    tmp_path: Path, state: str, condition: "pb.StoreCondition"
) -> None:
    expected = {condition}
    if not hasattr(Condition, "FULL"):  # the server cannot tell a full store from a read-only one
        expected |= {pb.STORE_CONDITION_READ_ONLY} if state == "full" else set()
    async with server_on_own_store(tmp_path) as (node, service, _):
        before = (await service.server_status()).store
        assert before.condition == pb.STORE_CONDITION_READY
        await enter_state(state, node)

        async def is_reported() -> bool:
            return (await service.server_status()).store.condition in expected

        await wait_until(is_reported)
        store = (await service.server_status()).store
        assert store.condition_time.ToMilliseconds() > before.condition_time.ToMilliseconds()
        # A store that does not answer keeps its last facts.
        assert (store.product, store.version) == (before.product, before.version)
        assert store.read_time.ToMilliseconds() >= before.read_time.ToMilliseconds()


@pytest.mark.usefixtures("short_checks")
async def test_store_that_hangs_does_not_hold_up_the_status(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as own_store:
        service = await Service.start(own_store.url)
        try:
            before = await service.server_status()
            os.kill(own_store.pid, signal.SIGSTOP)
            try:

                async def is_gone() -> bool:
                    status = await service.server_status()
                    return status.store.condition == pb.STORE_CONDITION_GONE

                await wait_until(is_gone)
                assert (await service.server_status()).store.key_count == before.store.key_count
            finally:
                os.kill(own_store.pid, signal.SIGCONT)
        finally:
            await service.stop()


def test_every_condition_and_persistence_has_its_value() -> None:
    """The tables know all conditions of the core and all of the contract."""
    assert {condition.name for condition in Condition} <= admin._STORE_CONDITIONS.keys()
    conditions = set(admin._STORE_CONDITIONS.values())
    assert conditions == set(pb.StoreCondition.values()) - {pb.STORE_CONDITION_UNSPECIFIED}
    assert admin._PERSISTENCE.keys() == set(Persistence)
    persistence = set(admin._PERSISTENCE.values())
    assert persistence == set(pb.StorePersistence.values()) - {pb.STORE_PERSISTENCE_UNSPECIFIED}


async def test_status_holds_no_address_and_no_password(serve: Serve, store_url: str) -> None:
    service = await serve()
    text = str(await service.server_status())
    assert service.server.config.redis_url == store_url
    assert "://" not in text
    assert "/" not in text
    assert keys.META not in text
    assert service.server.engine.store.secret.decode() not in text
