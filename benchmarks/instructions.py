"""Instructions that the store executes for a call: ``python -m benchmarks.instructions``.

Other work on the machine changes times, but instructions by a few percent at most. The store runs
under valgrind's callgrind, which must be installed; the core runs in this process, without gRPC.

- publish: to 10 followers in 10 shards, whose feeds are warm; by one of 100 authors in turn.
- page: the first 20 activities of a warm feed.

16 calls at a time, S = 16. ``--server`` names another store than the embedded one.
"""

import asyncio
import random
import re
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest

from benchmarks.load import population
from feedsvc import convert
from feedsvc.config import Limits
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.pages import Cursor
from feedsvc.core.store import Store
from feedsvc.embedded import find_server

AT_A_TIME = 16
CALLS = 320
AUTHORS, FOLLOWERS = 100, 10
#: Seconds between looks for the socket of the store.
LOOK_SECONDS = 0.1


@click.command()
@click.option(
    "--server", type=click.Path(exists=True, path_type=Path), help="The program of another store."
)
def main(server: Path | None) -> None:
    """Count the instructions that the store executes for a publish and for a page."""
    with tempfile.TemporaryDirectory(prefix="feedsvc-bench-") as folder:
        asyncio.run(_measure(server or find_server().path, Path(folder)))


async def _measure(server: Path, folder: Path) -> None:
    socket, output = folder / "socket", folder / "callgrind"
    running = await asyncio.create_subprocess_exec(
        *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
        *(f"--callgrind-out-file={output}", str(server)),
        *("--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while not socket.exists():  # noqa: ASYNC110 (nothing sets an Event)
            await asyncio.sleep(LOOK_SECONDS)
        store = Store.at(f"unix://{socket}", Limits())
        await store.open()
        publish, page = await _prepare(Engine.on(store))
        await _make_calls(publish)
        for number, (name, call) in enumerate({"publish": publish, "page": page}.items(), 1):
            await _control(running.pid, "-i", "on")
            await _make_calls(call)
            await _control(running.pid, "-i", "off")
            await _control(running.pid, "-d", name)
            dump = output.with_name(f"{output.name}.{number}").read_text()
            total = re.findall(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)[-1]
            click.echo(f"{name}: {int(total) // CALLS:,} instructions")
        await store.close()
    finally:
        running.terminate()
        await running.wait()


async def _prepare(engine: Engine) -> tuple[Callable[[int], Awaitable[object]], ...]:
    """Make authors and followers. Return a publish and a page, which take the call's number."""
    authors = population.users(AUTHORS)
    shards = engine.store.limits.shards
    followers = population.follower_of_each_shard(shards, population.users(population.CANDIDATES))
    rng = random.Random(2)
    for author in authors:
        sample = rng.sample(followers, FOLLOWERS)
        await engine.edges.follow(
            [NewEdge(follower, author) for follower in sample if follower != author]
        )
    for follower in followers:
        await engine.feeds.rebuild(follower)

    async def publish(number: int) -> object:
        activity = population.activity(authors[number % AUTHORS], number)
        new = convert.new_activity(
            PublishActivityRequest(activity=activity), engine.store.clock.now_ms()
        )
        return await engine.activities.publish(new, "")

    async def page(number: int) -> object:
        return await engine.feeds.page(followers[number % shards], Cursor(), 20)

    return publish, page


async def _make_calls(call: Callable[[int], Awaitable[object]]) -> None:
    for first in range(0, CALLS, AT_A_TIME):
        await asyncio.gather(*(call(first + number) for number in range(AT_A_TIME)))


async def _control(pid: int, *arguments: str) -> None:
    control = await asyncio.create_subprocess_exec(
        *("callgrind_control", *arguments, str(pid)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await control.wait()


if __name__ == "__main__":
    main()
