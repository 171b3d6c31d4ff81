"""The connection to the store: commands, scripts, and what the store was created with.

All that the core asks of the store goes through ``Store.call``; ``batching.py`` makes batches of
it. A connection begins with a greeting, before anything else is asked of the store.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Self

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
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
from feedsvc.core import fitness, keys, scripts
from feedsvc.core.batching import Arg, Batcher, Command
from feedsvc.errors import StoreUnavailable, StoreUnfit

log = logging.getLogger(__name__)

__all__ = ["Arg", "Store"]

#: Seconds that the store may take to answer a batch.
ANSWER_SECONDS = 5.0

_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)
#: Out of memory, a failing disk, a slot on the move: an operator has to act, and then it works
#: again.
_NOT_NOW = (OutOfMemoryError, ClusterDownError, TryAgainError, MasterDownError)
#: The same, for which redis-py has no class.
_NOT_NOW_CODES = ("MISCONF", "NOREPLICAS")


class Store:
    """One store node. ``open`` checks that it is fit and whose it is, before any use."""

    def __init__(self, redis: "Redis", limits: Limits) -> None:
        self.redis = redis
        self.limits = limits
        self.tags = keys.tags(limits.shards)
        self.secret = b""
        self.cluster = False
        """Whether a command may only touch keys of one slot."""
        self.lossy = True
        """Whether the store may lose its last writes when it is started anew."""
        self.incarnations = [""] * limits.shards
        """By shard, what the store was when it was connected to: another one after a loss."""
        self._scripts = scripts.load(limits)
        self._batcher = Batcher(self._send, _translated)
        self._connection: AbstractConnection | None = None
        self._greeted = False
        self._siblings: list[Store] = []
        self._retry = _retry()

    @classmethod
    def at(cls, url: str, limits: Limits) -> Self:
        """A store by its URL (``redis://``, ``rediss://`` or ``unix://``)."""
        redis = Redis.from_url(
            url,
            protocol=2,  # answers as the core reads them
            socket_timeout=None,  # each batch has one timer, not each of its answers
            socket_connect_timeout=ANSWER_SECONDS,
            retry=_retry(),
        )
        return cls(redis, limits)

    def sibling(self) -> Self:
        """The same store by a connection of its own, which is closed with this one's."""
        other = type(self)(self.redis, self.limits)
        other.secret, other.cluster = self.secret, self.cluster
        self._siblings.append(other)
        return other

    async def open(self) -> None:
        """Checks the store and reads its record, or makes it. Raises StoreUnfit."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                info = await self.redis.info()
                fitness.check(info)
                for script in self._scripts.values():
                    await self.redis.script_load(script.source)
                schema, shards, secret = await self.redis.eval(
                    self._scripts["meta"].source,
                    1,
                    keys.META,
                    keys.SCHEMA,
                    self.limits.shards,
                    secrets.token_hex(32),
                )
        except ReadOnlyError as error:
            raise StoreUnfit(
                "the store is read-only (a replica?): give the primary's address in --redis-url"
            ) from error
        except BusyLoadingError as error:
            raise StoreUnfit("the store is still loading its data: try again in a while") from error
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
        except ResponseError as error:
            raise StoreUnfit(f"the store does not let us work: {error}") from error
        except RedisError as error:
            raise StoreUnfit(
                "what answers is no Redis or Valkey: give the store's address in --redis-url"
            ) from error
        if int(schema) != keys.SCHEMA:
            raise StoreUnfit(
                f"the store's data has schema {int(schema)}, this version needs {keys.SCHEMA}: "
                "run the version that made it, or use another store"
            )
        if int(shards) != self.limits.shards:
            raise StoreUnfit(
                f"the store was made with {int(shards)} shards, not {self.limits.shards}: "
                f"start with --shards {int(shards)}"
            )
        self.secret = secret
        self.cluster = bool(info.get("cluster_enabled"))
        await self._meet()

    async def _meet(self) -> None:
        """Greets the store for the first time."""
        try:
            await self.call("PING")
        except StoreUnavailable as error:
            raise StoreUnfit("the store has gone away: is it running still?") from error

    async def close(self) -> None:
        await self.disconnect()
        await self.redis.aclose()

    async def disconnect(self) -> None:
        """Sends and answers no more."""
        for sibling in self._siblings:
            await sibling.disconnect()
        await self._batcher.close()
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

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
        script = self._scripts[name]
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
        if not (self._greeted and self._connection.is_connected):
            await self._greet(self._connection)
        return await self._ask(self._connection, packed, count)

    async def _greet(self, connection: AbstractConnection) -> None:
        """Notes which run of the store this is, before anything else is asked of it."""
        self._greeted = False
        # Whoever was a replica, or syncs now and then, may lack what was acknowledged.
        commands: list[Command] = [("INFO",), ("CONFIG", "GET", "appendfsync")]
        told, policy = await self._ask(connection, _packed(commands), len(commands))
        if isinstance(told, Exception):
            raise told
        info = dict(line.split(":", 1) for line in told.decode().split("\r\n") if ":" in line)
        if info.get("loading") == "1":  # until then it says that it has no append-only file
            raise BusyLoadingError
        synced = not isinstance(policy, Exception) and policy[1:] == [b"always"]
        self.lossy = not (
            info.get("aof_enabled") == "1"
            and synced
            and info.get("master_replid2", "").strip("0") == ""
        )
        script = self._scripts["incarnate"]
        run = info["run_id"]
        commands = [("SCRIPT", "LOAD", script.source)]
        commands += [("EVALSHA", script.sha, 1, tag, run, int(self.lossy)) for tag in self.tags]
        _, *answers = await self._ask(connection, _packed(commands), len(commands))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        self.incarnations = [answer.decode() for answer in answers]
        self._greeted = True

    async def _ask(self, connection: AbstractConnection, packed: bytes, count: int) -> list[Any]:
        await connection.send_packed_command(packed, check_health=False)
        answers: list[Any] = []
        while len(answers) < count:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    async def _disconnect(self, _: Exception) -> None:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)


def _packed(commands: Sequence[Command]) -> bytes:
    return b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]


def _retry() -> Retry:
    """Of connecting, and of batches: every script can be run twice, see the notes in each."""
    return Retry(ExponentialBackoff(cap=0.5, base=0.02), 3)


def _translated(error: BaseException) -> BaseException:
    """What the rest of the core sees of a store's error."""
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error, (*_UNAVAILABLE, OSError, asyncio.CancelledError)):
        return StoreUnavailable("the store is not available")
    if isinstance(error, RedisError):
        log.error("the store refused a command: %s", error)
        if isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_CODES):
            return StoreUnavailable("the store is not available")
    return error
