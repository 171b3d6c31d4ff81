"""The transport: batches of commands and their answers, over one connection to a primary.

A connection begins with a greeting, before any other command (``greeting.py``). The greeting, and a
look at the node's role every tenth of a second, tell whether the node still is the store's primary.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ResponseError

from feedsvc.core.batching import Command
from feedsvc.core.store_errors import OF_REPLICA, NotPrimary

#: Seconds that the store may take to answer a batch.
ANSWER_SECONDS = 5.0
#: Seconds for which a node counts as a primary after it said so. A demoted primary still answers
#: reads on its connections.
ROLE_SECONDS = 0.1

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands and returns their answers, among them the errors of single commands."""


def retry() -> Retry:
    """Return the policy for connections and batches. It may run a script twice: all allow that."""
    return Retry(ExponentialBackoff(cap=0.5, base=0.02), 3)


class Transport:
    """A connection to the store, made when it is needed, and again after it broke."""

    def __init__(self, redis: "Redis", greet: Callable[[Ask], Awaitable[None]]) -> None:
        """``greet`` is called with each new connection before it is used."""
        self._redis = redis
        self._greet = greet
        self._greeted = False
        self._role_seen = 0.0
        self._retry = retry()
        self.connection: AbstractConnection | None = None

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Exchange commands for their answers, among them the errors of single commands.

        Raise redis-py's errors of connections, NotPrimary, and the errors of the greeting.
        """
        packed = _packed(commands)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._retry.call_with_retry(
                lambda: self._exchange(packed, len(commands)), self._disconnect_after
            )

    def forget_greeting(self) -> None:
        """Greet the store again before the next commands."""
        self._greeted = False

    async def disconnect(self) -> None:
        """Cut the connection; the next commands make another connection."""
        if self.connection is not None:
            await self.connection.disconnect(nowait=True)

    async def _disconnect_after(self, _: Exception) -> None:
        await self.disconnect()

    async def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send packed commands and read their answers.

        This uses a connection of redis-py's, but not its pipeline, which takes 20 us of this
        process for each command where this takes 5: see docs/performance.md.
        """
        if self.connection is None:
            self.connection = await self._redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection = self.connection
        if not connection.is_connected:
            self._greeted = False
            await connection.connect()  # which asks the Sentinels anew
        if not self._greeted:
            began = time.monotonic()
            await self._greet(lambda commands: _ask(connection, _packed(commands), len(commands)))
            self._role_seen, self._greeted = began, True
        now = time.monotonic()
        if now - self._role_seen < ROLE_SECONDS:
            return await _ask(connection, packed, count)
        role, *answers = await _ask(connection, _ROLE + packed, count + 1)
        if isinstance(role, Exception) or role[0] != b"master":
            raise NotPrimary("the node is a replica")
        self._role_seen = now
        return answers


async def _ask(connection: AbstractConnection, packed: bytes, count: int) -> list[Any]:
    await connection.send_packed_command(packed, check_health=False)
    answers: list[Any] = []
    is_replica = False
    while len(answers) < count:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
            is_replica = is_replica or isinstance(error, OF_REPLICA)
    if is_replica:
        raise NotPrimary("the node has become a replica")
    return answers


def _packed(commands: Sequence[Command]) -> bytes:
    return b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]


_ROLE = _packed([("ROLE",)])
