"""What an operator sees in the log of servers and workers that run as processes."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    GetActivityRequest,
    PublishActivityRequest,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import FollowRequest
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feedsvc.config import Limits
from feedsvc.core import background, health, ids, keys
from feedsvc.server_status import VERSION
from tests.harness.processes import Process, find_free_port
from tests.nodes import Node
from tests.serving import TIMEOUT_SECONDS, wait_until

SHARDS = Limits().shards
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
#: Calls that fail while the store is in a state.
FAILURES = 4
#: An activity that does not exist.
MISSING_ID = "1898765432109876480"
NOT_FOUND = (
    f"there is no activity {MISSING_ID}: it was deleted, retention took it, or it never existed"
)
BAD_VERB = "INVALID_ARGUMENT INVALID_FIELD: activity.verb: must not contain control characters"
BATCH_FAILED = "2 of 4 entries failed: INVALID_ARGUMENT INVALID_FIELD 2"
REQUEST_ID = r'request_id "r\"1\n"'
#: The program with more checks of the store a second than usual, so that tests wait less.
PROGRAM = """\
import sys
from feedsvc.__main__ import main
from feedsvc.core import health
health.CHECK_SECONDS, health.SLOW_SECONDS = 0.1, float(sys.argv.pop(1))
main()
"""
#: Seconds of a slow check where a test is about slow stores, and where no check counts as slow: the
#: machine may be busy.
SLOW_SECONDS, NEVER_SLOW = health.SLOW_SECONDS, 60.0
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) (\w+): (.*)")


def command(slow_seconds: float, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(slow_seconds), *arguments]


def log_lines(process: Process) -> list[str]:
    """Return the lines of a log without those of its banner and of tracebacks."""
    return [
        line
        for line in process.log_text().splitlines()
        if not line.startswith(("  ", f"feedsvc {VERSION} "))
    ]


class Logging:
    """A store, and a server and a worker on it whose logs a test reads."""

    def __init__(
        self, folder: Path, node: Node, port: int, slow_seconds: float, *options: object
    ) -> None:
        settings = [*("--redis-url", node.url), *map(str, options)]
        serve = ["serve", "--port", str(port), "--drain-seconds", "1", *settings]
        self.node = node
        self.server = Process("server", command(slow_seconds, *serve), folder / "server.log", {})
        self.worker = Process(
            "worker", command(slow_seconds, "worker", *settings), folder / "worker.log", {}
        )
        self.port = port
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)]
        )
        self.client = FeedClient(self.channel)

    @property
    def store(self) -> str:
        """The store as the log names it."""
        return f"the store 127.0.0.1:{self.node.port}"

    def lines(self, process: Process, logger: str) -> list[str]:
        """Return level and message of each line of a logger; all lines have the log's format."""
        matches = []
        for line in log_lines(process):
            match = LINE.fullmatch(line)
            assert match, line
            matches.append(match)
        return [f"{match[1]} {match[3]}" for match in matches if match[2] == logger]

    async def stop(self, process: Process) -> None:
        process.terminate()

        async def has_ended() -> bool:
            return process.has_ended()

        await wait_until(has_ended)


@asynccontextmanager
async def logging_processes(
    folder: Path,
    *options: object,
    store: tuple[str, ...] = (),
    worker: bool = False,
    slow_seconds: float = NEVER_SLOW,
) -> AsyncIterator[Logging]:
    node = Node(folder / "store", "--appendonly", "yes", "--appendfsync", "always", *store)
    await node.start()
    processes = Logging(folder, node, find_free_port(), slow_seconds, *options)
    try:
        processes.server.launch()
        await processes.server.wait_for_line("serving on")
        if worker:
            processes.worker.launch()
            await processes.worker.wait_for_line("working")
        yield processes
    finally:
        await processes.client.close()
        processes.server.kill()
        processes.worker.kill()
        await node.stop()


async def fail(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


def publish(actor: str, **fields: Any) -> PublishActivityRequest:
    return PublishActivityRequest(activity=Activity(actor=actor, verb="post"), **fields)


def without_numbers(line: str) -> str:
    """Return a line without its port of the peer and its duration."""
    return re.sub(r"[\d.]+ ms", "N ms", re.sub(r"(ipv4:127\.0\.0\.1):\d+", r"\1:N", line))


async def test_line_of_a_failed_call_names_the_call_and_nothing_of_its_content(
    tmp_path: Path,
) -> None:
    async with logging_processes(tmp_path) as processes:
        client = processes.client
        await client.activities.PublishActivity(publish("alice"))
        await fail(
            client.activities.PublishActivity(
                PublishActivityRequest(
                    activity=Activity(actor="alice", verb="s3cret\nverb"), request_id='r"1\n'
                )
            )
        )
        await fail(client.activities.GetActivity(GetActivityRequest(id=MISSING_ID)))
        await client.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(
                requests=[publish("alice"), publish(""), publish("bob"), publish("")]
            )
        )
        tag = keys.tags(SHARDS)[ids.shard_for("carol", SHARDS)]
        await processes.node.redis.set(keys.feed(tag, "carol"), "s3cret")
        await fail(client.feeds.GetFeed(GetFeedRequest(user="carol")))
        await processes.stop(processes.server)
        lines = processes.lines(processes.server, "failed_calls")
        peer = "peer ipv4:127.0.0.1:N, N ms"
        assert [without_numbers(line) for line in lines] == [
            f"INFO PublishActivity {BAD_VERB} ({peer}, {REQUEST_ID})",
            f"INFO GetActivity NOT_FOUND ACTIVITY_NOT_FOUND: {NOT_FOUND} ({peer})",
            f"INFO BatchPublishActivities: {BATCH_FAILED} ({peer})",
            f"ERROR GetFeed INTERNAL INTERNAL: a defect, ResponseError ({peer})",
        ]
        text = processes.server.log_text()
        assert "s3cret" not in text
        assert text.count("Traceback (most recent call last)") == 1
        assert processes.lines(processes.server, "store_errors")[0].startswith(
            "ERROR the store refused a command: WRONGTYPE"
        )


async def test_ends_that_the_caller_or_the_server_chose_are_not_logged(tmp_path: Path) -> None:
    async with logging_processes(tmp_path, "--stream-seconds", 1) as processes:
        subscriptions = processes.client.subscriptions
        await fail(
            processes.client.activities.PublishActivity(
                publish("alice", wait_for_delivery=True), timeout=0.0001
            )
        )
        cancelled = subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob"))
        await cancelled.read()
        cancelled.cancel()
        expired = subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob"))
        error = await fail(read_to_the_end(expired))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        drained = subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob"))
        await drained.read()
        await processes.stop(processes.server)
        assert processes.lines(processes.server, "failed_calls") == []


async def test_flood_of_failed_calls_is_counted(tmp_path: Path) -> None:
    """The lines and the numbers of the summaries add up to the calls."""
    calls, concurrency = 2_000, 100
    async with logging_processes(tmp_path) as processes:
        remaining = iter(range(calls))

        async def refused() -> None:
            for _ in remaining:
                await fail(processes.client.activities.GetActivity(GetActivityRequest(id="x")))

        async with asyncio.timeout(6 * TIMEOUT_SECONDS):
            await asyncio.gather(*(refused() for _ in range(concurrency)))
        await processes.stop(processes.server)
        lines = processes.lines(processes.server, "failed_calls")
        summaries = [line for line in lines if "more failed call" in line]
        single_lines = len(lines) - len(summaries)
        assert 20 <= single_lines <= 120
        counts = []
        for line in summaries:
            summary = re.fullmatch(
                r"INFO ([\d,]+) more failed calls in the last \d+ s: "
                r"GetActivity INVALID_ARGUMENT INVALID_FIELD \1",
                line,
            )
            assert summary, line
            counts.append(int(summary[1].replace(",", "")))
        assert single_lines + sum(counts) == calls


CALLS_FAIL = "Calls fail with UNAVAILABLE, deliveries wait"
CALLS_ARE_LATE = (
    "Calls and deliveries succeed, but late. See SLOWLOG, disk and processor of the store, the "
    "network, and the load of this process"
)
WRITES_FAIL = "Reads succeed, writes fail with UNAVAILABLE, deliveries wait"


async def traffic(processes: Logging, failures: list[grpc.StatusCode]) -> None:
    """Publish, read and follow streams until cancelled; note each failed call."""
    client = processes.client

    async def repeat(call: Callable[[], Awaitable[Any]]) -> None:
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                failures.append(error.code())
            await asyncio.sleep(0.02)

    async def follow_stream() -> None:
        await read_to_the_end(client.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob")))

    await asyncio.gather(
        repeat(lambda: client.activities.PublishActivity(publish("alice"), timeout=5)),
        repeat(
            lambda: client.activities.PublishActivity(
                publish("alice", wait_for_delivery=True), timeout=5
            )
        ),
        repeat(
            lambda: client.activities.BatchPublishActivities(
                BatchPublishActivitiesRequest(requests=[publish("bob")] * 5), timeout=5
            )
        ),
        repeat(lambda: client.feeds.GetFeed(GetFeedRequest(user="bob"), timeout=5)),
        repeat(follow_stream),
    )


async def change(state: str, node: Node) -> None:
    """Bring the store into a state."""
    match state:
        case "killed":
            node.process.kill()
        case "paused":
            node.process.pause()
        case "full":
            await node.redis.config_set("maxmemory", 1_000_000)
        case "without replicas":
            await node.redis.config_set("min-replicas-to-write", 1)
        case "demoted":
            await node.redis.replicaof("127.0.0.1", 1)
        case "protected":
            await node.redis.config_set("requirepass", "s3cret")
            await node.redis.execute_command("AUTH", "s3cret")
            await node.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        case "evicting":
            await node.redis.config_set("maxmemory-policy", "allkeys-lru")
            await node.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")


async def change_back(node: Node) -> None:
    """Make the store ready again."""
    node.process.resume()
    if node.process.has_ended():
        await node.start()
    for name, value in (
        *(("maxmemory", 0), ("min-replicas-to-write", 0), ("requirepass", "")),
        ("maxmemory-policy", "noeviction"),
    ):
        await node.redis.config_set(name, value)
    await node.promote()


STATES = {
    "killed": f"is gone: the connection is refused. {CALLS_FAIL}. Start the store",
    "paused": f"is gone: it has not answered for 2.5 s. {CALLS_FAIL}. Look at the store and at the "
    "network",
    "full": f"is full: it uses N MB of its maxmemory, 1.0 MB. {WRITES_FAIL}. Raise maxmemory, or "
    "store less",
    "without replicas": "is read-only: it has fewer good replicas than its min-replicas-to-write "
    f"(NOREPLICAS). {WRITES_FAIL}. Repair the replicas, or lower min-replicas-to-write",
    "demoted": f"is a replica. {CALLS_FAIL}. Promote a node, or start this process with the "
    "primary's address in --redis-url",
    "protected": f"is gone: it refuses the user or password. {CALLS_FAIL}. Give the right ones in "
    "--redis-url",
    "evicting": "cannot be used: the store evicts keys when memory is short (maxmemory-policy "
    "allkeys-lru), and would lose activities or repeat requests: run `CONFIG SET "
    "maxmemory-policy noeviction` on the store, and set it in the store's configuration too. "
    f"{CALLS_FAIL}",
}


#: The log takes the begin and the end of four states at once.
@pytest.mark.parametrize("states", [list(STATES)[:4], list(STATES)[4:]], ids=" then ".join)
async def test_state_of_the_store_is_logged_when_it_begins_and_when_it_ends(
    tmp_path: Path, states: list[str]
) -> None:
    """Under traffic, by the server and by the worker; and the log has nothing else of the store."""
    options = ("--inline-audience", 1, "--push-chunk", 1)
    async with logging_processes(tmp_path, *options, worker=True) as processes:
        for follower in ("bob", "carol", "dave"):
            await processes.client.follows.Follow(
                FollowRequest(follower=follower, followee="alice")
            )
        failures: list[grpc.StatusCode] = []
        running = asyncio.create_task(traffic(processes, failures))
        both = (processes.server, processes.worker)

        async def have_logged(count: int) -> bool:
            return all(len(processes.lines(process, "health")) == count for process in both)

        async def calls_fail() -> bool:
            return len(failures) >= FAILURES

        for number, state in enumerate(states):
            await change(state, processes.node)
            await wait_until(partial(have_logged, 2 * number + 1))
            failures.clear()
            await wait_until(calls_fail)
            await change_back(processes.node)
            await wait_until(partial(have_logged, 2 * number + 2))
        await background.end(running)
        for process in both:
            await processes.stop(process)
            assert process.status == 0
            lines = processes.lines(process, "health")
            assert [re.sub(r"\d+\.\d (s$|MB of)", r"N \1", line) for line in lines] == [
                line
                for state in states
                for line in (
                    f"ERROR {processes.store} {STATES[state]}",
                    f"INFO {processes.store} is ready again after N s",
                )
            ]
            text = process.log_text()
            assert "Traceback" not in text
            assert "s3cret" not in text
            allowed = ("health: ", "failed_calls: ", "process: ", "serve: ", "engine_lifecycle: ")
            others = [
                line for line in log_lines(process) if not any(map(line.__contains__, allowed))
            ]
            assert others == []
        failed_calls = processes.lines(processes.server, "failed_calls")
        assert len([line for line in failed_calls if "STORE_UNAVAILABLE:" in line]) <= 3
        assert processes.lines(processes.worker, "failed_calls") == []


async def test_slow_store_is_logged_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    async with logging_processes(tmp_path, slow_seconds=SLOW_SECONDS) as processes:

        async def stall() -> None:
            while True:
                await processes.node.redis.execute_command("DEBUG", "SLEEP", "0.7")
                # Shorter than the time between two checks: each check waits for most of a stall.
                await asyncio.sleep(0.05)

        stalling = asyncio.create_task(stall())
        await processes.server.wait_for_line("is slow")
        await processes.client.feeds.GetFeed(GetFeedRequest(user="bob"))
        await background.end(stalling)
        await processes.server.wait_for_line("ready again")
        lines = processes.lines(processes.server, "health")
        begin = f"WARNING {processes.store} is slow: it took N s for the last check"
        assert [re.sub(r"\d+\.\d s", "N s", line) for line in lines] == [
            f"{begin}. {CALLS_ARE_LATE}",
            f"INFO {processes.store} is ready again after N s",
        ]


async def test_store_that_loads_for_a_while_is_logged_with_the_percentage(tmp_path: Path) -> None:
    # The store takes a tenth of a millisecond to load each command after its restart.
    async with logging_processes(tmp_path, store=("--key-load-delay", "100")) as processes:
        pipeline = processes.node.redis.pipeline(transaction=False)
        for number in range(30_000):
            pipeline.rpush("list", number)
        await pipeline.execute()
        processes.node.process.kill()
        processes.node.process.launch()
        line = await processes.server.wait_for_line("is loading")
        assert re.sub(r"\d+ %", "N %", line).endswith(
            f"WARNING health: {processes.store} is loading its data: N % done. {CALLS_FAIL}"
        )
        await processes.node.redis.config_set("key-load-delay", 0)
        await processes.server.wait_for_line("ready again")


async def test_store_that_changes_all_the_time_is_summed_up(tmp_path: Path) -> None:
    async with logging_processes(tmp_path) as processes:
        redis = processes.node.redis

        def logged() -> list[str]:
            return processes.lines(processes.server, "health")

        async def is_logged(count: int) -> bool:
            return len(logged()) >= count

        for count in range(1, 9):
            await redis.config_set("maxmemory", count % 2)
            await wait_until(partial(is_logged, count))
        await redis.config_set("maxmemory", 1)
        stub = health_pb2_grpc.HealthStub(processes.channel)
        request = health_pb2.HealthCheckRequest(service="activityfeed.v1.ActivityService")

        async def has_changed() -> bool:
            return (await stub.Check(request)).status == NOT_SERVING

        await wait_until(has_changed)
        await processes.stop(processes.server)
        assert len(logged()) == 9
        assert re.sub(r"\d+ s", "N s", logged()[-1]) == (
            f"ERROR 1 more change of {processes.store} in the last N s; now it is full: FULL 1"
        )


async def test_dead_letter_is_logged_with_what_an_operator_needs(tmp_path: Path) -> None:
    options = ("--inline-audience", 1, "--push-chunk", 1, "--job-tries", 2)
    async with logging_processes(tmp_path, *options, "--workers", 1) as processes:
        client = processes.client
        for follower in ("bob", "carol", "dave"):
            await client.follows.Follow(FollowRequest(follower=follower, followee="alice"))
        tag = keys.tags(SHARDS)[ids.shard_for("bob", SHARDS)]
        await processes.node.redis.set(keys.feed(tag, "bob"), "s3cret")
        answer = await client.activities.PublishActivity(publish("alice"))
        await processes.server.wait_for_line("dead letter")
        await processes.stop(processes.server)
        description = f"delivery of activity {answer.activity.id} of alice"
        attempt, letter = processes.lines(processes.server, "jobs")
        assert attempt.startswith(
            f"WARNING attempt 1 of 2 failed, a worker tries again: {description}: ResponseError: "
            "WRONGTYPE"
        )
        found = re.fullmatch(
            rf"ERROR dead letter (\d+-\d+-\d+) after 2 failed attempts: {description}: "
            r"ResponseError: WRONGTYPE .*\. Look at it: feedsvc dead-letters --show \1",
            letter,
        )
        assert found, letter
        assert processes.server.log_text().count("Traceback") == 1
