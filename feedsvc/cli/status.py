"""``feedsvc status``: the state of a server, its store and the deliveries on one screen."""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import grpc
import grpc.aio
from activityfeed import FeedClient
from activityfeed.admin.v1 import admin_service_pb2 as pb
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from feedsvc.cli.connection import call_server, json_option, server_option
from feedsvc.cli.rendering import age, age_since, console, has_cursor, plain, print_lines

#: Seconds between two readings of `status --watch`.
WATCH_SECONDS = 1.0
#: Columns of the subjects of lines.
SUBJECT_COLUMNS = 13
#: Part of a limit from which the operator should act.
NEARLY_FULL = 0.9
#: Seconds of lag from which the operator should act.
LONG_LAG_SECONDS = 60.0

#: What each condition of the store means, and what to do about it; nothing if it is well.
CONDITIONS = {
    pb.STORE_CONDITION_READY: ("ready", ""),
    pb.STORE_CONDITION_SLOW: (
        "slow",
        "look for slow commands and load on the store: `SLOWLOG GET`, `INFO commandstats`",
    ),
    pb.STORE_CONDITION_FULL: (
        "full, answers only reads",
        "give the store more memory: `CONFIG SET maxmemory <bytes>`",
    ),
    pb.STORE_CONDITION_READ_ONLY: (
        "refuses writes, answers only reads",
        (
            "look at the store's disk, replicas and memory: `INFO persistence`, "
            "`INFO replication`, `INFO memory`"
        ),
    ),
    pb.STORE_CONDITION_LOADING: (
        "loads its data, nothing is served",
        "wait until the store has loaded its data; its log shows the progress",
    ),
    pb.STORE_CONDITION_REPLICA: (
        "is a replica, nothing is served",
        "promote a replica, or let the store's address lead to the primary",
    ),
    pb.STORE_CONDITION_FOREIGN: (
        "is another store, nothing is served",
        (
            "read the server's log, which says what differs; bring the store back, or restart the "
            "server with the right settings"
        ),
    ),
    pb.STORE_CONDITION_GONE: (
        "does not answer, nothing is served",
        "see that the store runs, and that the server's machine reaches it",
    ),
}
#: Conditions in which the store answers the calls of `feedsvc status`.
READABLE = (
    pb.STORE_CONDITION_READY,
    pb.STORE_CONDITION_SLOW,
    pb.STORE_CONDITION_FULL,
    pb.STORE_CONDITION_READ_ONLY,
)
#: What each kind of persistence means, and what to do about it.
PERSISTENCE = {
    pb.STORE_PERSISTENCE_UNSPECIFIED: ("unknown", ""),
    pb.STORE_PERSISTENCE_SYNCED_ALWAYS: ("append-only file, synced always", ""),
    pb.STORE_PERSISTENCE_SYNCED_EVERY_SECOND: ("append-only file, synced every second", ""),
    pb.STORE_PERSISTENCE_NOT_SYNCED: ("append-only file, sync off", ""),
    pb.STORE_PERSISTENCE_APPEND_ONLY_FILE: ("append-only file, sync unknown", ""),
    pb.STORE_PERSISTENCE_SNAPSHOTS: (
        "only snapshots",
        "a crash loses the writes since the last one: `CONFIG SET appendonly yes` on the store",
    ),
    pb.STORE_PERSISTENCE_NONE: (
        "off",
        "a crash loses all data: `CONFIG SET appendonly yes` on the store",
    ),
}


@dataclass(frozen=True)
class Line:
    """A line of the screen."""

    subject: str
    text: str
    remedy: str = ""
    """What the operator should do; empty if all is well."""


@click.command(short_help="Show the state of a server and its store.")
@click.option("--watch", is_flag=True, help="Show the state again each second, until Ctrl-C.")
@json_option(
    "Print one line of JSON: `server` is the GetServerStatusResponse, `deliveries` the "
    "GetFanoutStatusResponse or null, `problems` a list that is empty if all is well."
)
@server_option
def status(*, watch: bool, as_json: bool, server: str) -> None:
    """Show the state of a server, its store and the deliveries, and what to do about problems.

    The exit status is 0 if all is well, and 1 if the operator should act or no server answers. The
    command also answers while the store is gone.
    """

    async def work(client: FeedClient) -> bool:
        return await _show(client, server, watch=watch, as_json=as_json)

    sys.exit(0 if call_server(server, work) else 1)


async def _show(client: FeedClient, server: str, *, watch: bool, as_json: bool) -> bool:
    """Print the state; return True if all is well."""
    out = console()
    while True:
        status, deliveries = await _read(client, server)
        lines = list(_lines(server, status, deliveries))
        if as_json:
            click.echo(json.dumps(_report(status, deliveries, lines)))
        else:
            if watch and has_cursor(out):
                out.clear()
            _print(out, lines)
            if watch and not has_cursor(out):
                out.print()
        if not watch:
            return not any(line.remedy for line in lines)
        await asyncio.sleep(WATCH_SECONDS)


async def _read(
    client: FeedClient, server: str
) -> tuple[pb.GetServerStatusResponse, pb.GetFanoutStatusResponse | None]:
    """Return the state of the server, and of the deliveries if the store answers."""
    try:
        status = await client.admin.GetServerStatus(pb.GetServerStatusRequest())
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise click.ClickException(
                f"the server at {server} is older than this command and does not report its "
                "state: update the server, or use `feedsvc fanout`"
            ) from None
        raise
    if status.store.condition not in READABLE:
        return status, None
    try:
        return status, await client.admin.GetFanoutStatus(pb.GetFanoutStatusRequest())
    except grpc.aio.AioRpcError:
        return status, None  # the store has gone meanwhile, or the server is stopping


def _report(
    status: pb.GetServerStatusResponse,
    deliveries: pb.GetFanoutStatusResponse | None,
    lines: list[Line],
) -> dict[str, Any]:
    """Return the report as `--json` prints it."""
    return {
        "server": _fields(status),
        "deliveries": _fields(deliveries) if deliveries is not None else None,
        "problems": [
            {"subject": line.subject, "state": line.text, "remedy": line.remedy}
            for line in lines
            if line.remedy
        ],
    }


def _fields(message: Message) -> dict[str, Any]:
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def _print(out: Console, lines: list[Line]) -> None:
    """Print the lines, each remedy below its line."""
    for line in lines:
        style = "bold red" if line.remedy else ""
        text = Text.assemble(line.subject.ljust(SUBJECT_COLUMNS), (plain(line.text), style))
        print_lines(out, text, indent=SUBJECT_COLUMNS)
        if line.remedy:
            remedy = Text(" " * SUBJECT_COLUMNS + f"-> {line.remedy}", style="yellow")
            print_lines(out, remedy, indent=SUBJECT_COLUMNS)


def _lines(
    server: str,
    status: pb.GetServerStatusResponse,
    deliveries: pb.GetFanoutStatusResponse | None,
) -> Iterator[Line]:
    yield _server_line(server, status)
    yield from _store_lines(status.store)
    yield _deliveries_line(status, deliveries)
    yield _load_line(
        *("streams", status.stream_count, status.max_stream_count),
        "start another server, or give a greater --max-streams",
    )
    yield _load_line(
        *("calls", status.call_count, status.max_call_count),
        "start another server, or give a greater --max-calls",
    )


def _server_line(server: str, status: pb.GetServerStatusResponse) -> Line:
    is_draining = status.state == pb.SERVER_STATE_DRAINING
    state = "stopping" if is_draining else "serving"
    return Line(
        "server",
        f"{state} at {server}: feedsvc {status.version} on {status.host_name}, started "
        f"{age_since(status.start_time)}",
        "ask another server, or start this one again" if is_draining else "",
    )


def _store_lines(store: pb.StoreStatus) -> Iterator[Line]:
    condition, remedy = CONDITIONS.get(store.condition, ("in an unknown state", ""))
    text = condition
    if remedy:
        text += f", since {age_since(store.condition_time)}"
    if not store.HasField("read_time"):
        yield Line("store", text, remedy)
        return
    product = f"{store.product} {store.version}" + (", embedded" if store.embedded else "")
    started = age(store.uptime.ToSeconds())
    if store.condition in READABLE:
        yield Line("store", f"{text}: {product}, started {started}", remedy)
    else:
        yield Line("store", f"{text}: {product}, below as of {age_since(store.read_time)}", remedy)
    yield _memory_line(store)
    persistence, remedy = PERSISTENCE.get(store.persistence, ("unknown", ""))
    yield Line("persistence", persistence, remedy)
    yield Line(
        "eviction",
        "none (noeviction)" if store.eviction_policy == "noeviction" else store.eviction_policy,
        ""
        if store.eviction_policy == "noeviction"
        else "feedsvc would lose data: `CONFIG SET maxmemory-policy noeviction` on the store",
    )
    yield Line(
        "keys",
        f"{store.key_count:,} in {store.shard_count} shards, {store.replica_count} replicas",
    )


def _memory_line(store: pb.StoreStatus) -> Line:
    used = decimal(store.used_memory_bytes)
    if not store.max_memory_bytes:
        return Line("memory", f"{used}, no limit")
    part = store.used_memory_bytes / store.max_memory_bytes
    remedy = "give the store more memory: `CONFIG SET maxmemory <bytes>`"
    return Line(
        "memory",
        f"{used} of {decimal(store.max_memory_bytes)} ({part:.0%})",
        remedy if part >= NEARLY_FULL else "",
    )


def _deliveries_line(
    status: pb.GetServerStatusResponse, deliveries: pb.GetFanoutStatusResponse | None
) -> Line:
    if deliveries is None:
        return Line("deliveries", "unknown while the store does not answer")
    lag = deliveries.lag.ToMilliseconds() / 1000
    return Line(
        "deliveries",
        f"{deliveries.open_count:,} queued, lag {lag:,.1f} s, "
        f"{deliveries.dead_letter_count:,} dead letters",
        "; ".join(_delivery_remedies(status, deliveries, lag)),
    )


def _delivery_remedies(
    status: pb.GetServerStatusResponse, deliveries: pb.GetFanoutStatusResponse, lag: float
) -> Iterator[str]:
    if deliveries.dead_letter_count:
        yield "`feedsvc dead-letters` lists the dead letters and replays them"
    if deliveries.waiting_count and not deliveries.running_count and not status.worker_count:
        yield "this server has no workers: start `feedsvc worker`"
    elif lag >= LONG_LAG_SECONDS:
        yield "`feedsvc fanout` shows the oldest job; start more `feedsvc worker` processes"


def _load_line(subject: str, count: int, limit: int, remedy: str) -> Line:
    is_nearly_full = count >= limit * NEARLY_FULL
    return Line(subject, f"{count:,} of {limit:,}", remedy if is_nearly_full else "")
