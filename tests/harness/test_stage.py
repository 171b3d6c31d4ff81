import asyncio
import random
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from tests.faults.run import random_limits
from tests.harness.stage import Stage
from tests.harness.store import MARK_KEY
from tests.serving import wait_until


async def test_failover_keeps_what_the_standby_has_and_loses_later_writes(tmp_path: Path) -> None:
    """Open connections stay with the old primary, which takes no writes once it is demoted."""
    chance = random.Random(1)
    stage = Stage(tmp_path, "failover", chance, random_limits(chance))
    old, new = stage.stores
    clients = [Redis.from_url(f"unix://{tmp_path}/proxy.sock", max_connections=1) for _ in range(2)]
    try:
        await stage.start_store()
        await new.start(old)
        await stage.start_proxy()
        await wait_until(lambda: new.holds_all_of(old))
        await old.write_mark()
        mark = await old.read_mark()

        async def standby_has_the_mark() -> bool:
            return bool(await new.redis.exists(MARK_KEY)) and await new.read_mark() == mark

        await wait_until(standby_has_the_mark)
        await clients[0].set("kept", 1)
        await old.redis.wait(1, 10_000)
        await new.promote()
        stage.switch_to_standby()
        await clients[0].set("lost", 1)
        await clients[1].set("kept too", 1)
        await old.demote(new)
        with pytest.raises(ReadOnlyError):
            await clients[0].set("refused", 1)
        await wait_until(lambda: old.holds_all_of(new))
        for store in stage.stores:
            assert await store.redis.exists("kept", "kept too") == 2
            assert await store.redis.exists("lost", "refused") == 0
        assert await stage.primary.read_mark() == mark
    finally:
        await asyncio.gather(*(client.aclose() for client in clients))
        await stage.stop()
