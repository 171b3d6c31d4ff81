"""Backups that are taken under traffic, and what the service knows when it runs on a restored one.

The commands are those of docs/operating.md.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import FeedState
from redis.asyncio import Redis

from feedsvc.config import Limits
from feedsvc.embedded import EmbeddedStore
from tests.nodes import Node, Switch
from tests.serving import Service, Stream, expect_refusal, ids_on_page, wait_until

ROOT = Path(__file__).resolve().parents[2]
OPERATING = (ROOT / "docs/operating.md").read_text()
#: Every delivery to more than one follower is a job of the queue.
LIMITS = Limits(step_audience=0, inline_audience=1, push_chunk=2, job_lease=1)
AUTHORS = [f"author{number}" for number in range(4)]
READERS = [f"reader{number}" for number in range(8)]


def commands_under(heading: str) -> str:
    """Return the commands below a heading of docs/operating.md."""
    section = re.split(r"\n#+ ", OPERATING.split(f"# {heading}\n")[1])[0]
    return "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


async def run(commands: str, folder: Path) -> None:
    """Run commands of docs/operating.md in a folder that has the repository's `deploy`."""
    link = folder / "deploy"
    if not link.exists():
        link.symlink_to(ROOT / "deploy")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", commands),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@dataclass
class History:
    """What callers did before and during the backup, and the answers that they got."""

    published: dict[str, list[str]] = field(default_factory=lambda: {a: [] for a in AUTHORS})
    deleted: set[str] = field(default_factory=set)
    page_token: str = ""
    next_page: list[str] = field(default_factory=list)
    resume_token: str = ""
    seen: set[str] = field(default_factory=set)
    """Activities up to the resume token."""
    request_answer: str = ""

    def count(self) -> int:
        return sum(len(activity_ids) for activity_ids in self.published.values())


async def prepare(service: Service) -> tuple[History, Stream]:
    """Follow, publish, delete, unfollow, read and subscribe before the backup begins."""
    history = History()
    await service.follow_all([(reader, author) for reader in READERS for author in AUTHORS])
    await service.warm(*READERS[:4])  # the other feeds are cold
    for author in AUTHORS:
        history.published[author] += await service.post_many(author, 12)
        history.deleted.add(history.published[author][3])
        await service.delete(history.published[author][3], author)
    await service.unfollow(READERS[0], AUTHORS[0])
    await service.wait_for_deliveries()
    page = await service.page(READERS[1], size=5)
    history.page_token = page.next_page_token
    history.next_page = ids_on_page(await service.page(READERS[1], history.page_token, 5))
    history.request_answer = (await service.publish("asker", request_id="once")).activity.id
    stream = await service.subscribe(READERS[2])
    history.published[AUTHORS[1]].append(await service.post(AUTHORS[1]))
    await stream.read_event()
    history.resume_token = stream.token
    history.seen = {posted for posted_ids in history.published.values() for posted in posted_ids}
    return history, stream


@asynccontextmanager
async def traffic(service: Service, history: History) -> AsyncIterator[None]:
    """Publish without a pause while the block runs."""

    async def publish_for(author: str) -> None:
        while True:
            history.published[author].append(await service.post(author))

    tasks = [asyncio.create_task(publish_for(author)) for author in AUTHORS]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result


async def wait_for_publishes(history: History, count: int) -> None:
    target = history.count() + count

    async def has_come() -> bool:
        return history.count() >= target

    await wait_until(has_come)


async def check_data(service: Service, before: History, after: History) -> None:
    """Check that all data of before the backup is there, and that nothing contradicts itself."""
    alive = {}
    for author in AUTHORS:
        outbox = (await service.outbox(author))[::-1]
        expected = [posted for posted in after.published[author] if posted not in before.deleted]
        kept = [posted for posted in before.published[author] if posted not in before.deleted]
        assert outbox[: len(kept)] == kept
        # The last publish of each caller was cancelled: the restored store may have got it.
        acknowledged = outbox if outbox[-1] in expected else outbox[:-1]
        assert acknowledged == expected[: len(acknowledged)]
        alive[author] = outbox
    for activity_id in before.deleted:
        assert (await expect_refusal(service.get(activity_id))).reason == "ACTIVITY_NOT_FOUND"
    for reader in READERS:
        followed = AUTHORS[1:] if reader == READERS[0] else AUTHORS
        expected = sorted((posted for author in followed for posted in alive[author]), reverse=True)
        await service.wait_for_deliveries()
        assert await service.feed(reader) == expected
        assert not (await service.verify(reader)).differences
    for author in AUTHORS:
        readers = set(READERS) - ({READERS[0]} if author == AUTHORS[0] else set())
        assert set(await service.followers(author)) == readers


async def check_tokens(service: Service, before: History) -> None:
    """Check that page tokens and request ids of before the backup still work."""
    page = await service.page(READERS[1], before.page_token, 5)
    assert ids_on_page(page) == before.next_page
    repeated = await service.publish("asker", request_id="once")
    assert (repeated.already_published, repeated.activity.id) == (True, before.request_answer)


async def resume(service: Service, before: History) -> Stream:
    """Resume a stream of before the backup; check that it has each activity of the backup once."""
    stream = await service.subscribe(READERS[2], before.resume_token)
    outboxes = await asyncio.gather(*map(service.outbox, AUTHORS))
    missed = {posted for outbox in outboxes for posted in outbox if posted not in before.seen}
    events: list[tuple[str, str]] = []
    while {posted for _, posted in events} < missed:
        events.append(await stream.read_event())
    assert {posted for _, posted in events} == missed
    assert len(events) == len(missed)
    return stream


async def check_new_calls(service: Service, stream: Stream, reader: str) -> None:
    """Check that the service publishes, delivers and tells streams as ever."""
    posted = await service.post(AUTHORS[2])
    await stream.read_until(("added", posted))
    assert (await service.feed(reader))[0] == posted


def copy_of(history: History) -> History:
    copied = History(**vars(history))
    copied.published = {author: list(ids) for author, ids in history.published.items()}
    return copied


@pytest.mark.parametrize("rewrites", [False, True], ids=["", "during_rewrites"])
async def test_copied_files_of_a_running_store_hold_all_acknowledged_writes(
    tmp_path: Path, rewrites: bool
) -> None:
    """Streams and tokens of before the backup go on; those of after it are refused plainly."""

    backed_up = asyncio.Event()

    async def rewrite_all_the_time(url: str) -> None:
        async with Redis.from_url(url, protocol=2) as client:
            while rewrites and not backed_up.is_set():
                await client.bgrewriteaof()
                await wait_until(lambda: has_rewritten(client))

    async def has_rewritten(client: Redis) -> bool:
        info = await client.info("persistence")
        return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    async with EmbeddedStore(tmp_path / "data") as store:
        service = await Service.start(store.url, LIMITS)
        history, stream = await prepare(service)
        async with traffic(service, history), asyncio.TaskGroup() as group:
            group.create_task(rewrite_all_the_time(store.url))
            await wait_for_publishes(history, 100)
            before = copy_of(history)
            await run(commands_under("Copy the files of a running store"), tmp_path)
            backed_up.set()
            assert history.count() > before.count()
            await wait_for_publishes(history, 20)
        late = await service.publish("asker", request_id="late")
        lost = await service.post(AUTHORS[2])
        await stream.read_until(("added", lost))
        await stream.close()
        undone = before.published[AUTHORS[3]][0]
        await service.delete(undone, AUTHORS[3])
        await service.wait_for_deliveries()
        await service.stop()

    await run(commands_under("Restore files"), tmp_path)
    async with EmbeddedStore(tmp_path / "data") as store:
        service = await Service.start(store.url, LIMITS)
        assert (await service.stats(READERS[1])).state == FeedState.FEED_STATE_WARM
        assert (await service.get(undone)).id == undone
        await check_data(service, before, history)
        await check_tokens(service, before)
        assert (await expect_refusal(service.get(lost))).reason == "ACTIVITY_NOT_FOUND"
        repeated = await service.publish("asker", request_id="late")
        assert not repeated.already_published
        assert repeated.activity.id != late.activity.id

        reset = await service.subscribe(READERS[2], stream.token)
        fresh_token = await reset.read_expired_token()
        resumed = await resume(service, before)
        await check_new_calls(service, resumed, READERS[2])
        await resumed.close()
        fresh = await service.subscribe(READERS[2], fresh_token)
        await check_new_calls(service, fresh, READERS[2])
        await fresh.close()
        await service.stop()


def require_redis_cli() -> None:
    """Skip the test without redis-cli, but fail it in CI."""
    if shutil.which("redis-cli") is None:
        reason = "this test needs redis-cli on PATH (apt install redis-tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


async def test_snapshot_over_the_network_restores_a_store_under_running_servers(
    tmp_path: Path,
) -> None:
    """A store that does not sync every write counts as one that lost writes: streams reset."""
    require_redis_cli()
    options = ("--appendonly", "yes", "--appendfsync", "everysec")
    async with AsyncExitStack() as stack:
        node = Node(tmp_path / "node", *options)
        stack.push_async_callback(node.stop)
        await node.start()
        switch = await stack.enter_async_context(Switch(node))
        service = await Service.start(switch.url, LIMITS)
        history, stream = await prepare(service)
        async with traffic(service, history):
            await wait_for_publishes(history, 100)
            before = copy_of(history)
            commands = commands_under("Snapshot a store over the network")
            address = "-h store.example -p 6379"
            assert address in commands
            await run(commands.replace(address, f"-h 127.0.0.1 -p {node.port}"), tmp_path)
            await wait_for_publishes(history, 20)
        await node.redis.aclose()
        node.process.kill()

        restored = Node(tmp_path / "restored", *options)
        stack.push_async_callback(restored.stop)
        commands = commands_under("Restore a snapshot")
        assert "/var/lib/valkey" in commands
        await run(commands.replace("/var/lib/valkey", str(tmp_path / "restored")), tmp_path)
        await restored.start()
        switch.target = restored

        async def answers() -> bool:
            try:
                await service.page(READERS[0])
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return False
                raise
            return True

        await wait_until(answers)
        assert (await service.stats(READERS[1])).state == FeedState.FEED_STATE_COLD
        await check_data(service, before, history)
        await check_tokens(service, before)
        fresh_token = await stream.read_expired_token()
        resumed = await service.subscribe(READERS[2], before.resume_token)
        await resumed.read_expired_token()
        fresh = await service.subscribe(READERS[2], fresh_token)
        await check_new_calls(service, fresh, READERS[2])
        await fresh.close()
        await service.stop()

    # The same snapshot starts an embedded store.
    await run(commands.replace("/var/lib/valkey", str(tmp_path / "data")), tmp_path)
    async with EmbeddedStore(tmp_path / "data") as store:
        service = await Service.start(store.url, LIMITS)
        await check_data(service, before, history)
        await check_tokens(service, before)
        await service.stop()


async def run_script(*arguments: object) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        ROOT / "deploy/backup-store", *map(str, arguments), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_backup_refuses_a_folder_without_a_store_and_an_existing_target(
    tmp_path: Path,
) -> None:
    manifest = tmp_path / "data/appendonlydir/appendonly.aof.manifest"
    assert await run_script(tmp_path / "data", tmp_path / "backup") == (
        1,
        (
            f"backup-store: cannot read {manifest}; name the store's data directory, as a user "
            "who may read it\n"
        ),
    )
    manifest.parent.mkdir(parents=True)
    manifest.write_text("")
    assert await run_script(tmp_path / "data", tmp_path / "data") == (
        1,
        f"backup-store: {tmp_path / 'data'} exists already; name a new directory\n",
    )


async def test_backup_gives_up_if_the_files_of_the_manifest_never_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script never makes a backup that lacks a file."""
    files = tmp_path / "data/appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.manifest").write_text("file missing.aof seq 1 type i\n")
    (tmp_path / "sleep").symlink_to("/bin/true")  # no need to wait between the attempts
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert await run_script(tmp_path / "data", tmp_path / "backup") == (
        1,
        (
            f"backup-store: the files in {files} change all the time; try again when the store "
            "rewrites them less often\n"
        ),
    )
    assert not (tmp_path / "backup").exists()
