"""The connection to the store: commands, scripts, and what the store was created with.

All that the core asks of the store goes through ``Store.call``; ``batching.py`` makes batches of
it. A connection begins with a greeting, before anything else is asked of the store. The greeting,
and a look at the node's role every tenth of a second, tell whether this still is the store to ask:
a primary, with the record that this process knows.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feedsvc.config import Limits
from feedsvc.core import address, fitness, keys, scripts
from feedsvc.core.batching import Arg, Batcher, Command
from feedsvc.core.clock import Clock
from feedsvc.errors import StoreUnavailable, StoreUnfit

log = logging.getLogger(__name__)

__all__ = ["Arg", "Store"]

#: Seconds that the store may take to answer a batch.
ANSWER_SECONDS = 5.0
#: Seconds for which a node that said that it is a primary is believed to be one. A demoted primary
#: goes on answering reads on its connections.
ROLE_SECONDS = 0.1

_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)
#: The store refuses writes until an operator acts.
_WRITES_REFUSED_CODES = ("OOM", "MISCONF", "NOREPLICAS")
#: Out of memory, a slot on the move or on another node: an operator has to act, and then it works
#: again.
_NOT_NOW = (
    *(OutOfMemoryError, ClusterDownError, TryAgainError, MasterDownError),
    *(MovedError, AskError),
)
#: A replica's answers.
_OF_REPLICA = (ReadOnlyError, MasterDownError)

#: What scripts cost the store beside what their callers say, in the units of ``batching.py``: those
#: of many commands more than others.
_SCRIPT_COST = 10
_SCRIPT_COSTS = {"publish": 20, "outbox_add": 30}

_RECORD = ("HMGET", keys.META, "schema", "shards", "secret")


class NotPrimary(RedisConnectionError):
    """The node is a replica: the connection is given up, and the primary is looked for again."""


class ForeignStore(StoreUnavailable):
    """The store is not the one that this process was started on; the operator's reason is logged.

    Not a connection's error: connecting again at once would not help.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("the store is not available")
        self.reason = reason


@dataclass(slots=True)
class _Known:
    """What all connections of a process know of the store."""

    scripts: dict[str, scripts.Script]
    secret: bytes = b""
    cluster: bool = False
    clock: Clock = field(default_factory=Clock)
    members: "list[Store]" = field(default_factory=list)


class Store:
    """One store node. ``open`` checks that it is fit and whose it is, before any use."""

    def __init__(self, redis: "Redis", limits: Limits, known: _Known | None = None) -> None:
        self.redis = redis
        self.limits = limits
        self.tags = keys.tags(limits.shards)
        self.lossy = True
        """Whether the store may lose its last writes when it is started anew."""
        self.incarnations = [""] * limits.shards
        """By shard, the part of the names of feeds and logs that changes when writes are lost."""
        self.eras = ["-"] * limits.shards
        """By shard, what the store was when it was connected to. After a loss, or when the data was
        replaced, it has an era that it never had before."""
        self._known = known or _Known(scripts.load(limits))
        self._known.members.append(self)
        self._batcher = Batcher(self._send, _translated)
        self._connection: AbstractConnection | None = None
        self._greeted = False
        self._role_seen = 0.0
        self._siblings: list[Store] = []
        self._retry = _retry()

    @classmethod
    def at(cls, url: str, limits: Limits) -> Self:
        """A store by its URL: ``redis://``, ``rediss://``, ``unix://`` or see ``address.py``."""
        redis = address.client(
            url,
            protocol=2,  # answers as the core reads them
            socket_timeout=None,  # each batch has one timer, not each of its answers
            socket_connect_timeout=ANSWER_SECONDS,
            retry=_retry(),
        )
        return cls(redis, limits)

    def sibling(self) -> Self:
        """The same store by a connection of its own, which is closed with this one's."""
        other = type(self)(self.redis, self.limits, self._known)
        self._siblings.append(other)
        return other

    @property
    def secret(self) -> bytes:
        """The secret of the store's tokens, as the store's record has it now."""
        return self._known.secret

    @property
    def cluster(self) -> bool:
        """Whether a command may only touch keys of one slot."""
        return self._known.cluster

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self._known.clock

    async def open(self) -> None:
        """Checks the store and reads its record, or makes it. Raises StoreUnfit."""
        with _unfit():
            async with asyncio.timeout(ANSWER_SECONDS):
                info = await self.redis.info()
                fitness.check(info)
                if info.get("cluster_enabled"):
                    fitness.check_cluster(await self.redis.cluster("INFO"))
                    self._known.cluster = True
                    self._known.scripts = scripts.load(self.limits, one_node=False)
                for script in self._known.scripts.values():
                    await self.redis.script_load(script.source)
                await self.redis.role()
                record = await self.redis.execute_command(*_RECORD)  # type: ignore[no-untyped-call]
                if None in record:
                    record = await self.redis.eval(
                        self._known.scripts["meta"].source, 1, *self._own()
                    )
        try:
            self._adopt(record)
        except ForeignStore as error:
            raise StoreUnfit(error.reason) from None
        await self._meet()

    async def _meet(self) -> None:
        """Greets the store for the first time."""
        try:
            await self.call("TIME")
        except StoreUnavailable as error:
            raise StoreUnfit("the store has gone away: is it running still?") from error

    def _own(self) -> tuple[Arg, ...]:
        """What ``meta.lua`` makes a record of, where there is none."""
        self._known.secret = self._known.secret or secrets.token_hex(32).encode()
        return keys.META, keys.SCHEMA, self.limits.shards, self._known.secret

    def _adopt(self, record: Sequence[bytes | None]) -> None:
        """Takes the store's record for this process's. Raises ForeignStore if that cannot be."""
        schema, shards, secret = record
        if schema is None or shards is None or secret is None:
            raise ForeignStore("the store has lost its record and refuses to have it written again")
        if int(schema) != keys.SCHEMA:
            raise ForeignStore(
                f"the store's data has schema {int(schema)}, this version needs {keys.SCHEMA}: "
                "run the version that made it, or use another store"
            )
        if int(shards) != self.limits.shards:
            raise ForeignStore(
                f"the store was made with {int(shards)} shards, not {self.limits.shards}: "
                f"start with --shards {int(shards)}"
            )
        self._known.secret = secret

    async def close(self) -> None:
        await self.disconnect()
        await address.close(self.redis)

    async def disconnect(self) -> None:
        """Sends and answers no more."""
        for sibling in self._siblings:
            await sibling.disconnect()
        await self._batcher.close()
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        if self in self._known.members:
            self._known.members.remove(self)

    async def greet_again(self) -> None:
        """Learns what the store is now, because an answer told that it is not what it was.

        Raises StoreUnavailable.
        """
        self._greeted = False
        await self.call("TIME")

    async def connect_again(self) -> None:
        """Connect anew, because another connection of this process leads to another store.

        Raises StoreUnavailable.
        """
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        await self.greet_again()

    async def examine(self) -> bool:
        """Looks whether the store is as all connections of this process know it.

        Those that know it otherwise greet it again before their next batch. Says whether the store
        takes writes; that is asked by a script that has nothing to write, so it costs no sync.
        Raises the connection's own errors, NotPrimary and ForeignStore. Not to be used beside
        ``call``: only on a connection of one's own.
        """
        asked = time.monotonic()
        commands: list[Command] = [
            ("TIME",),
            ("EVAL", self._known.scripts["meta"].source, 1, *self._own()),
            _RECORD,
            *(("HGET", keys.tallies(tag), "era") for tag in self.tags),
        ]
        try:
            now, written, record, *eras = await self._send(commands)
            for answer in (now, record, *eras):
                if isinstance(answer, Exception):
                    raise answer
            self._adopt(record)
        except ForeignStore:
            self._forget()
            raise
        self._learn(now, asked)
        known = [(era or b"").decode() for era in eras]
        for member in self._known.members:
            if member.eras != known:
                member._greeted = False  # noqa: SLF001 (of the same class)
        return not isinstance(written, Exception)

    async def rediscover(self) -> None:
        """Leaves a node that the Sentinels, where there are any, call primary no more."""
        pool = self.redis.connection_pool
        if not isinstance(pool, SentinelConnectionPool):
            return
        try:
            primary = await pool.get_master_address()  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return  # as long as nobody knows better
        for member in self._known.members:
            connection: Any = member._connection  # noqa: SLF001 (of the same class)
            if connection is not None and (connection.host, connection.port) != tuple(primary):
                await connection.disconnect(nowait=True)

    def _forget(self) -> None:
        """Has every connection greet the store before its next batch."""
        for member in self._known.members:
            member._greeted = False  # noqa: SLF001 (of the same class)

    def call(self, *command: Arg, cost: int = 0) -> asyncio.Future[Any]:
        """Sends a command with one of the next batches; those of one caller leave in their order.

        ``cost`` is what it costs the store beside its arguments: see ``batching.py``.

        The answer is as the store gave it, in bytes. Raises StoreUnavailable.
        """
        return self._batcher.call(command, cost)

    async def until_free(self) -> None:
        """Waits for the end of the batch in flight: what is sent then leaves with the next."""
        await self._batcher.until_free()

    @property
    def batches(self) -> int:
        """Batches of commands sent so far."""
        return self._batcher.sent

    async def script(
        self, name: str, shards: int | Sequence[int], *arguments: Arg, cost: int = 0
    ) -> Any:
        """Runs a script of ``lua/`` in a shard, or in several unless this is a cluster."""
        cost += _SCRIPT_COSTS.get(name, _SCRIPT_COST)
        script = self._known.scripts[name]
        tags = [self.tags[one] for one in ((shards,) if isinstance(shards, int) else shards)]
        try:
            return await self.call("EVALSHA", script.sha, len(tags), *tags, *arguments, cost=cost)
        except NoScriptError:  # the store restarted, or its script cache was flushed
            return await self.call("EVAL", script.source, len(tags), *tags, *arguments, cost=cost)

    async def each_shard(self, name: str, *arguments: Arg) -> list[Any]:
        """Runs a script that answers with a list in all shards; the answers in order."""
        shards = range(self.limits.shards)
        if not self.cluster:
            return list(await self.script(name, shards, *arguments))
        parts = await asyncio.gather(*(self.script(name, one, *arguments) for one in shards))
        return [one for part in parts for one in part]

    async def _send(self, commands: list[Command]) -> list[Any]:
        packed = _packed(commands)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._retry.call_with_retry(
                lambda: self._exchange(packed, len(commands)), self._disconnect
            )

    async def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """Sends commands and reads their answers, errors among them.

        A connection of redis-py's, but not its pipeline, which takes 20 us of this process for each
        command where this takes 5: see docs/performance.md.
        """
        if self._connection is None:
            self._connection = await self.redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection = self._connection
        if not connection.is_connected:
            self._greeted = False
            await connection.connect()  # which asks the Sentinels anew
        if not self._greeted:
            await self._greet(connection)
        now = time.monotonic()
        if now - self._role_seen < ROLE_SECONDS:
            return await self._ask(connection, packed, count)
        role, *answers = await self._ask(connection, _ROLE + packed, count + 1)
        if isinstance(role, Exception) or role[0] != b"master":
            raise NotPrimary("the node is a replica")
        self._role_seen = now
        return answers

    async def _greet(self, connection: AbstractConnection) -> None:
        """Notes which store this is, and which run of it, before anything else is asked of it."""
        self._greeted = False
        asked = time.monotonic()
        # Whoever was a replica, or syncs now and then, may lack what was acknowledged.
        commands: list[Command] = [("TIME",), ("INFO",), ("CONFIG", "GET", "appendfsync"), _RECORD]
        now, told, policy, record = await self._ask(connection, _packed(commands), len(commands))
        if isinstance(told, Exception):
            raise told
        info = dict(line.split(":", 1) for line in told.decode().split("\r\n") if ":" in line)
        if info.get("loading") == "1":  # until then it says that it has no append-only file
            raise BusyLoadingError
        if info.get("role") != "master":
            raise NotPrimary("the node is a replica")
        try:
            fitness.check(info)
        except StoreUnfit as error:
            raise ForeignStore(str(error)) from error
        await self._greet_record(connection, record)
        self._learn(now, asked)
        synced = not isinstance(policy, Exception) and policy[1:] == [b"always"]
        self.lossy = not (
            info.get("aof_enabled") == "1"
            and synced
            and info.get("master_replid2", "").strip("0") == ""
        )
        script = self._known.scripts["incarnate"]
        rest = (info["run_id"], int(self.lossy), secrets.token_hex(6))
        groups = [(tag,) for tag in self.tags] if self.cluster else [self.tags]
        commands = [("SCRIPT", "LOAD", script.source)]
        commands += [("EVALSHA", script.sha, len(tags), *tags, *rest) for tags in groups]
        _, *answers = await self._ask(connection, _packed(commands), len(commands))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        self.incarnations = [name.decode() for name, *eras in answers for _ in eras]
        self.eras = [era.decode() for _, *eras in answers for era in eras]
        self._role_seen = asked
        self._greeted = True

    async def _greet_record(self, connection: AbstractConnection, record: Any) -> None:
        """Compares the store's record with this process's; makes it if the store lost it."""
        if not isinstance(record, Exception) and None in record:
            command = ("EVAL", self._known.scripts["meta"].source, 1, *self._own())
            (record,) = await self._ask(connection, _packed([command]), 1)
        if isinstance(record, Exception):
            raise record
        self._adopt(record)

    def _learn(self, now: Any, asked: float) -> None:
        """Takes the store's time from the answer to a TIME that was asked at a monotonic time."""
        if not isinstance(now, Exception):
            store_us = int(now[0]) * 1_000_000 + int(now[1])
            self._known.clock.learn(store_us, asked, time.monotonic())

    async def _ask(self, connection: AbstractConnection, packed: bytes, count: int) -> list[Any]:
        await connection.send_packed_command(packed, check_health=False)
        answers: list[Any] = []
        of_replica = False
        while len(answers) < count:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
                of_replica = of_replica or isinstance(error, _OF_REPLICA)
        if of_replica:
            raise NotPrimary("the node has become a replica")
        return answers

    async def _disconnect(self, _: Exception) -> None:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)


@contextlib.contextmanager
def _unfit() -> Iterator[None]:
    """What keeps a store from being opened, as StoreUnfit."""
    try:
        yield
    except ReadOnlyError as error:
        raise StoreUnfit(
            "the store is read-only (a replica?): give the primary's address in --redis-url"
        ) from error
    except BusyLoadingError as error:
        raise StoreUnfit("the store is still loading its data: try again in a while") from error
    except MasterNotFoundError as error:
        raise StoreUnfit(
            "no Sentinel can be reached that knows a primary of this service: are they running, "
            "and is --redis-url right?"
        ) from error
    except (*_UNAVAILABLE, OSError) as error:
        # redis-py wraps it on some kinds of connection.
        if isinstance(error, AuthenticationError) or isinstance(
            error.__context__, AuthenticationError
        ):
            raise StoreUnfit(
                "the store refuses the user or password: give the right ones in --redis-url"
            ) from error
        raise StoreUnfit(
            "the store cannot be reached: is it running, and is --redis-url right?"
        ) from error
    except (MovedError, AskError, ClusterDownError) as error:
        raise StoreUnfit(fitness.ONE_NODE) from error
    except ResponseError as error:
        raise StoreUnfit(f"the store does not let us work: {error}") from error
    except RedisError as error:
        raise StoreUnfit(
            "what answers is no Redis or Valkey: give the store's address in --redis-url"
        ) from error


def _packed(commands: Sequence[Command]) -> bytes:
    return b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]


_ROLE = _packed([("ROLE",)])


def _retry() -> Retry:
    """Of connecting, and of batches: every script can be run twice, see the notes in each."""
    return Retry(ExponentialBackoff(cap=0.5, base=0.02), 3)


def _translated(error: BaseException) -> BaseException:
    """What the rest of the core sees of a store's error."""
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error, (*_UNAVAILABLE, ForeignStore, OSError, asyncio.CancelledError)):
        return StoreUnavailable("the store is not available")
    if isinstance(error, RedisError):
        if isinstance(error, OutOfMemoryError) or str(error).startswith(_WRITES_REFUSED_CODES):
            return StoreUnavailable("the store is not available")  # health.py logs it, once
        log.error("the store refused a command: %s", error)
        if isinstance(error, _NOT_NOW):
            return StoreUnavailable("the store is not available")
    return error
