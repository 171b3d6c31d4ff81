"""The greeting: learns which store a connection leads to, and which run of that store.

The store's record says what the store was created with: schema, shards, secret. Its incarnation and
era say whether it has lost writes since. A node that was a replica, or that does not sync every
write to the disk, may lack writes that were acknowledged.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import BusyLoadingError

from feedsvc.config import Limits
from feedsvc.core import fitness, keys, scripts
from feedsvc.core.batching import Arg, Command
from feedsvc.core.clock import Clock
from feedsvc.core.store_errors import ForeignStore, NotPrimary
from feedsvc.core.transport import Ask
from feedsvc.errors import StoreUnfit

#: The command that reads the store's record.
RECORD: Command = ("HMGET", keys.META, "schema", "shards", "secret")


@dataclass(slots=True)
class KnownStore:
    """The store as all connections of this process know it."""

    limits: Limits
    scripts: dict[str, scripts.Script]
    secret: bytes = b""
    """The secret of the store's tokens."""
    cluster: bool = False
    """True if a command may only touch keys of one slot."""
    clock: Clock = field(default_factory=Clock)

    def meta_arguments(self) -> tuple[Arg, ...]:
        """Return the key and the arguments of ``meta.lua``."""
        self.secret = self.secret or secrets.token_hex(32).encode()
        return keys.META, keys.SCHEMA, self.limits.shards, self.secret

    def make_record(self) -> Command:
        """Return the command that reads the store's record, and makes it if the store has none."""
        return ("EVAL", self.scripts["meta"].source, 1, *self.meta_arguments())

    def adopt(self, record: Sequence[bytes | None]) -> None:
        """Adopt the store's record. Raise ForeignStore if this process cannot work with it."""
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
        self.secret = secret

    def learn_time(self, answer: Any, asked: float) -> None:
        """Take the store's time from the answer to TIME, which was sent at a monotonic time."""
        if not isinstance(answer, Exception):
            store_us = int(answer[0]) * 1_000_000 + int(answer[1])
            self.clock.learn(store_us, asked, time.monotonic())


@dataclass(frozen=True, slots=True)
class Identity:
    """The run of a store that a connection greeted."""

    lossy: bool
    """True if the store may lose its last writes when it starts anew."""
    incarnations: list[str]
    """By shard, the part of the names of feeds and logs that changes when writes are lost."""
    eras: list[str]
    """By shard, the name of the store's unbroken history.

    After a loss, or when the data was replaced, the store has an era that it never had before.
    """


async def greet(ask: Ask, known: KnownStore, tags: Sequence[str]) -> Identity:
    """Learn which store a new connection leads to, and which run of that store.

    Raise BusyLoadingError, NotPrimary, or ForeignStore if the store is not the known store.
    """
    (info_answer,) = await ask([("INFO",)])  # alone: a store that loads refuses other commands
    info = _primary_info(info_answer)
    asked = time.monotonic()
    time_answer, policy, record = await ask([("TIME",), ("CONFIG", "GET", "appendfsync"), RECORD])
    if not isinstance(record, Exception) and None in record:
        (record,) = await ask([known.make_record()])
    if isinstance(record, Exception):
        raise record
    known.adopt(record)
    known.learn_time(time_answer, asked)
    lossy = _is_lossy(info, policy)
    script = known.scripts["incarnate"]
    run = (info["run_id"], int(lossy), secrets.token_hex(6))
    groups = [(tag,) for tag in tags] if known.cluster else [tuple(tags)]
    commands: list[Command] = [("SCRIPT", "LOAD", script.source)]
    commands += [("EVALSHA", script.sha, len(group), *group, *run) for group in groups]
    _, *answers = await ask(commands)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return Identity(
        lossy,
        [incarnation.decode() for incarnation, *eras in answers for _ in eras],
        [era.decode() for _, *eras in answers for era in eras],
    )


def info_fields(answer: Any) -> dict[str, str]:
    """Return the fields of an answer to INFO. Raise the answer if it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return fitness.fields_of(answer)


def _primary_info(answer: Any) -> dict[str, str]:
    """Return the fields of an answer to INFO, if a fit primary gave the answer."""
    info = info_fields(answer)
    if info.get("loading") == "1":  # while a store loads, its INFO shows no append-only file
        raise BusyLoadingError(info.get("loading_loaded_perc", ""))
    if info.get("role") != "master":
        raise NotPrimary("the node is a replica")
    try:
        fitness.check(info)
    except StoreUnfit as error:
        raise ForeignStore(str(error)) from error
    return info


def _is_lossy(info: dict[str, str], policy: Any) -> bool:
    """Return whether the store may lose acknowledged writes when it starts anew."""
    syncs_always = not isinstance(policy, Exception) and policy[1:] == [b"always"]
    was_replica = info.get("master_replid2", "").strip("0") != ""
    return not (info.get("aof_enabled") == "1" and syncs_always and not was_replica)
