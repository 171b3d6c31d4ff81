"""The store, as the core uses it: commands, scripts, and the life of its connections.

Every command of the core goes through ``Store.call``. ``batching.py`` makes batches of the
commands, ``transport.py`` exchanges them, and ``greeting.py`` checks which store answers.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError

from feedsvc.config import Limits
from feedsvc.core import address, fitness, ids, keys, scripts, transport
from feedsvc.core.batching import Arg, Batcher, Command
from feedsvc.core.clock import Clock
from feedsvc.core.greeting import RECORD, KnownStore, greet, info_fields
from feedsvc.core.store_errors import ForeignStore, translated
from feedsvc.core.transport import Ask, Transport
from feedsvc.errors import StoreNotReady, StoreUnavailable, StoreUnfit

__all__ = ["Arg", "Store"]

#: Cost of a script beside the cost that its caller gives, in the units of ``batching.py``; scripts
#: of many commands cost more.
_SCRIPT_COST = 10
_SCRIPT_COSTS = {"publish": 20, "outbox_add": 30}


@dataclass(slots=True)
class _Family:
    """The connections of this process to one store, and their common knowledge of the store."""

    known: KnownStore
    members: "list[Store]" = field(default_factory=list)


class Store:
    """One connection to a store node. ``open`` checks the store before any use."""

    def __init__(self, redis: "Redis", limits: Limits, family: _Family | None = None) -> None:
        self.redis = redis
        self.limits = limits
        self.tags = keys.tags(limits.shards)
        self.lossy = True
        """True if the store may lose its last writes when it starts anew."""
        self.incarnations = [""] * limits.shards
        """As in ``greeting.Identity``."""
        self.eras = ["-"] * limits.shards
        """As in ``greeting.Identity``."""
        self._family = family or _Family(KnownStore(limits, scripts.load(limits)))
        self._family.members.append(self)
        self._known = self._family.known
        self._transport = Transport(redis, self._greet)
        self._batcher = Batcher(self._transport.send, translated)
        self._siblings: list[Store] = []
        self.address = address.of(redis)
        """The address for the log, without user and password."""

    @classmethod
    def at(cls, url: str, limits: Limits) -> Self:
        """Return a store by its URL: see ``address.py`` and redis-py's ``Redis.from_url``."""
        redis = address.client(
            url,
            protocol=2,  # answers as the core reads them
            socket_timeout=None,  # each batch has one timer, not each of its answers
            socket_connect_timeout=transport.ANSWER_SECONDS,
            retry=transport.retry(),
        )
        return cls(redis, limits)

    def sibling(self) -> Self:
        """Return another connection to the same store, which is closed with this one."""
        sibling = type(self)(self.redis, self.limits, self._family)
        self._siblings.append(sibling)
        return sibling

    @property
    def primary(self) -> str:
        """The node that this connection leads to, if Sentinels have named the node; else empty."""
        connection: Any = self._transport.connection
        if connection is None or not isinstance(self.redis.connection_pool, SentinelConnectionPool):
            return ""
        return f"{connection.host}:{connection.port}"

    @property
    def secret(self) -> bytes:
        """The secret of the store's tokens, as the store's record has it now."""
        return self._known.secret

    @property
    def cluster(self) -> bool:
        """True if a command may only touch keys of one slot."""
        return self._known.cluster

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self._known.clock

    @property
    def batches(self) -> int:
        """Number of batches sent so far."""
        return self._batcher.sent

    def shard_for(self, entity: str) -> int:
        """Return the shard in which an entity's keys live."""
        return ids.shard_for(entity, self.limits.shards)

    def tag_for(self, entity: str) -> str:
        """Return the hash tag of the shard in which an entity's keys live."""
        return self.tags[self.shard_for(entity)]

    # Life cycle.

    async def open(self) -> None:
        """Check the store, and read its record or make the record.

        Raise StoreNotReady if the store may open later, StoreUnfit if an operator has to act first.
        A store that could not be opened can be opened again.
        """
        with fitness.unfit(self.address):
            async with asyncio.timeout(transport.ANSWER_SECONDS):
                info = await self.redis.info()
                if info.get("loading"):  # redis-py would try other commands for seconds, in vain
                    raise BusyLoadingError
                fitness.check(info)
                if info.get("cluster_enabled"):
                    fitness.check_cluster(await self.redis.cluster("INFO"))
                    self._known.cluster = True
                    self._known.scripts = scripts.load(self.limits, one_node=False)
                await self._load_scripts()
                await self.redis.role()
                record = await self.redis.execute_command(*RECORD)  # type: ignore[no-untyped-call]
                if None in record:
                    record = await self.redis.execute_command(*self._known.make_record())  # type: ignore[no-untyped-call]
        try:
            self._known.adopt(record)
        except ForeignStore as error:
            raise StoreUnfit(error.reason) from None
        try:
            await self.call("TIME")  # which greets the store for the first time
        except StoreUnavailable as error:
            raise StoreNotReady("the store has gone away: is it running still?") from error

    async def _load_scripts(self) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        for script in self._known.scripts.values():
            pipeline.script_load(script.source)
        # The pipeline itself would put the whole script into the text of an error.
        for answer in await pipeline.execute(raise_on_error=False):
            if isinstance(answer, Exception):
                raise answer

    async def close(self) -> None:
        """Disconnect, and close the client with its connections to Sentinels."""
        await self.disconnect()
        await address.close(self.redis)

    async def disconnect(self) -> None:
        """Send and answer nothing any more."""
        for sibling in self._siblings:
            await sibling.disconnect()
        await self._batcher.close()
        await self._transport.disconnect()
        if self in self._family.members:
            self._family.members.remove(self)

    # Commands.

    def call(self, *command: Arg, cost: int = 0) -> asyncio.Future[Any]:
        """Send a command with one of the next batches; commands of one caller leave in order.

        ``cost`` is what the command costs the store beside its arguments: see ``batching.py``. The
        answer is as the store gave it, in bytes. Raise StoreUnavailable.
        """
        return self._batcher.call(command, cost)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Exchange commands for their answers, among them the errors of single commands.

        The commands pass by the batches, so do not use ``ask`` and ``call`` on the same connection,
        and let only one task ask at a time. Raise the connection's own errors and ForeignStore.
        """
        return await self._transport.send(commands)

    async def until_free(self) -> None:
        """Wait for the end of the batch in flight: a command sent then leaves with the next."""
        await self._batcher.until_free()

    async def script(
        self, name: str, shards: int | Sequence[int], *arguments: Arg, cost: int = 0
    ) -> Any:
        """Run a script of ``lua/`` in a shard, or in several unless this is a cluster."""
        cost += _SCRIPT_COSTS.get(name, _SCRIPT_COST)
        script = self._known.scripts[name]
        tags = [self.tags[shard] for shard in ((shards,) if isinstance(shards, int) else shards)]
        try:
            return await self.call("EVALSHA", script.sha, len(tags), *tags, *arguments, cost=cost)
        except NoScriptError:  # the store restarted, or its script cache was flushed
            return await self.call("EVAL", script.source, len(tags), *tags, *arguments, cost=cost)

    async def each_shard(self, name: str, *arguments: Arg) -> list[Any]:
        """Run a script in all shards; return its answers for each shard, in order."""
        shards = range(self.limits.shards)
        if not self.cluster:
            return list(await self.script(name, shards, *arguments))
        parts = await asyncio.gather(*(self.script(name, shard, *arguments) for shard in shards))
        return [answer for part in parts for answer in part]

    # The identity of the store.

    async def _greet(self, ask: Ask) -> None:
        identity = await greet(ask, self._known, self.tags)
        self.lossy = identity.lossy
        self.incarnations, self.eras = identity.incarnations, identity.eras

    def forget_greeting(self) -> None:
        """Greet the store again before the next batch."""
        self._transport.forget_greeting()

    async def greet_again(self) -> None:
        """Greet the store at once: an answer said that the store has changed.

        Raise StoreUnavailable.
        """
        self.forget_greeting()
        await self.call("TIME")

    async def connect_again(self) -> None:
        """Connect anew: another connection of this process leads to another store.

        Raise StoreUnavailable.
        """
        await self._transport.disconnect()
        await self.greet_again()

    async def memory(self) -> tuple[int, int]:
        """Return the bytes that the store uses and its ``maxmemory``. Not with ``call``."""
        (answer,) = await self._transport.send([("INFO", "memory")])
        info = info_fields(answer)
        return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))

    async def examine(self) -> Exception | None:
        """Check that the store is as all connections of this process know it.

        Connections that know the store otherwise greet it again before their next batch. Return
        the error by which the store refuses writes, or None: a script that changes nothing finds
        that out without a sync. Raise the connection's own errors, NotPrimary and ForeignStore. Do
        not use ``examine`` and ``call`` on the same connection.
        """
        asked = time.monotonic()
        commands: list[Command] = [
            ("TIME",),
            self._known.make_record(),
            RECORD,
            *(("HGET", keys.tallies(tag), "era") for tag in self.tags),
        ]
        try:
            now, written, record, *era_answers = await self._transport.send(commands)
            for answer in (now, record, *era_answers):
                if isinstance(answer, Exception):
                    raise answer
            self._known.adopt(record)
        except ForeignStore:
            for member in self._family.members:
                member.forget_greeting()
            raise
        self._known.learn_time(now, asked)
        eras = [(era or b"").decode() for era in era_answers]
        for member in self._family.members:
            if member.eras != eras:
                member.forget_greeting()
        return written if isinstance(written, Exception) else None

    async def rediscover(self) -> None:
        """Leave a node that the Sentinels, if the store has them, do not call primary any more."""
        pool = self.redis.connection_pool
        if not isinstance(pool, SentinelConnectionPool):
            return
        try:
            primary = await pool.get_master_address()  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return  # no Sentinel answers: the known primary stays
        for member in self._family.members:
            await member.leave_unless(tuple(primary))

    async def leave_unless(self, primary: tuple[str, int]) -> None:
        """Disconnect if the connection leads to another node than the primary."""
        connection: Any = self._transport.connection
        if connection is not None and (connection.host, connection.port) != primary:
            await self._transport.disconnect()
