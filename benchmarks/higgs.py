"""A week of Twitter, the whole of it: imported, weighed, and read.

The Higgs data (docs/testing.md): 812,770 follows, most of which are inferred from
interactions, and 563,069 activities, of 322,792 users. Limits are the default ones: one user has
so many followers, 23,737, that he is pulled. There is no alternative. Without the data, and in a
quick run, there are no figures. One round.

- *Import*: by `feedsvc import`, follows and activities in two runs of the program. Rates are of the
  program's own `seconds`, without its start, and of the time after it until nothing is left to be
  delivered. All feeds are cold. Rows that are there twice, or in which somebody follows himself,
  do not count as follows.
- *Memory*: by how much `used_memory` grew with the follows and with the activities, to one each,
  and with both, to each user, at rest as in `memory.py`. Records of requests, which go by
  themselves after a minute, are taken away first.
- *Feeds*: those of 10,000 users, drawn at random, are read to their end over gRPC, 32 at a time,
  and compared with what the files say (`tests/data/oracle.py`): the same activities, each once,
  in order. No outbox is trimmed, for nobody did more than 656 things.
"""

import asyncio
import gzip
import json
import random
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity

from benchmarks import population
from benchmarks.figures import Figure
from benchmarks.memory import at_rest
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import Stage, stage
from feedsvc.config import Limits
from feedsvc.core import keys
from tests.data.location import DataMissing, directory_of
from tests.data.oracle import HIGGS_VERBS, DataSet, Event, Oracle

#: By kind, in the order of import.
FILES = {
    "follows": (
        "higgs-social_network.head355074.edgelist.gz",
        "derived-interaction-follow.tsv.gz",
    ),
    "activities": ("higgs-activity_time.txt.gz",),
}
#: Of a feed, at a time.
PAGE = 100
#: Feeds that are read at once.
READING = 32
#: Keys that are looked through at a time.
KEYS = 5_000
SEED = 20_120_704
#: Differing feeds that are told of one by one.
TOLD = 10


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to."""

    rows: int
    seconds: float
    bytes: int


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Rates, bytes, and how many feeds differ."""
    if not scale.higgs_users:
        report.tell("higgs: skipped, this is a quick run")
        return []
    try:
        folder = directory_of("higgs")
    except DataMissing as missing:
        report.tell(f"higgs: skipped. {missing}")
        return []
    data = await asyncio.to_thread(read, folder)
    async with stage() as on:
        imported = {}
        for done, (kind, names) in enumerate(FILES.items()):
            report.turn("the whole week", kind, done, len(FILES))
            imported[kind] = await _import(on, [folder / name for name in names], kind)
        follows, activities = imported["follows"], imported["activities"]
        if (follows.rows, activities.rows) != (data.follows, len(data.events)):
            raise RuntimeError(f"imported {imported}")
        users = _users(data)
        chosen = random.Random(SEED).sample(users, scale.higgs_users)
        differing, seconds = await _compare(on.client, data, chosen, report)
    return [
        *(
            Figure(f"import of the whole week, {kind}", f"{kind}/s", "", (one.rows / one.seconds,))
            for kind, one in imported.items()
        ),
        *(
            Figure(f"memory of the whole week, to {what}", "bytes", "", (taken / count,))
            for what, taken, count in (
                ("each user", follows.bytes + activities.bytes, len(users)),
                ("each follow", follows.bytes, follows.rows),
                ("each activity", activities.bytes, activities.rows),
            )
        ),
        Figure("feeds of the whole week, read cold", "feeds/s", "", (len(chosen) / seconds,)),
        Figure(
            f"feeds that differ, of {len(chosen):,} of the whole week",
            "feeds",
            "",
            (differing,),
            target="<= 0 feeds",
            absolute=True,
        ),
    ]


def read(folder: Path) -> DataSet:
    """What the files say."""
    events = (
        Event(actor=actor, verb=HIGGS_VERBS[kind], object_id=target, ms=1000 * int(when))
        for actor, target, when, kind in _rows(folder, FILES["activities"])
    )
    follows = {
        (follower, followee)
        for follower, followee, *_ in _rows(folder, FILES["follows"])
        if follower != followee
    }
    return DataSet(events, follows)


def _rows(folder: Path, names: Sequence[str]) -> Iterator[list[str]]:
    for name in names:
        with gzip.open(folder / name, "rt") as file:
            for line in file:
                yield line.split()


def _users(data: DataSet) -> list[str]:
    """All that the files name."""
    names = (name for event in data.events for name in (event.actor, event.object_id))
    return sorted({*names, *data.followees, *data.followers})


async def _import(on: Stage, files: Sequence[Path], kind: str) -> Imported:
    before = await at_rest(on.redis)
    result = json.loads(await asyncio.to_thread(_run, on.target, files))
    begun = time.monotonic()
    await population.settled(on.client)
    seconds = result["seconds"] + time.monotonic() - begun
    await _forget_requests(on)
    return Imported(result[kind], seconds, await at_rest(on.redis) - before)


def _run(target: str, files: Sequence[Path]) -> bytes:
    arguments = ["import", "--preset", "higgs", "--json", "--server", target, *map(str, files)]
    return subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-m", "feedsvc", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # rows in which somebody follows himself, one by one
        check=True,
    ).stdout


async def _forget_requests(on: Stage) -> None:
    for tag in keys.tags(on.shards):
        cursor = -1
        while cursor:
            cursor, some = await on.redis.scan(max(0, cursor), f"{tag}q:*", KEYS)
            if some:
                await on.redis.unlink(*some)


async def _compare(
    client: FeedClient, data: DataSet, users: Sequence[str], report: Progress
) -> tuple[int, float]:
    """How many feeds are not as they must be, and the seconds that reading them took."""
    oracle = Oracle(data, Limits().outbox_cap)
    found: dict[str, list[Activity]] = {}

    async def walk(user: str) -> None:
        pages = [page async for page in client.pages(user, page_size=PAGE)]
        found[user] = [item.activity.activity for page in pages for item in page.items]
        report.advance()

    report.phase(f"{len(users):,} feeds", len(users))
    begun = time.perf_counter()
    await population.in_lanes(users, walk, lanes=READING)
    seconds = time.perf_counter() - begun
    differing = [
        user
        for user in users
        if not _same(found[user], [data.events[number] for number in oracle.feed(user)])
    ]
    for user in differing[:TOLD]:
        expected = len(oracle.feed(user))
        report.tell(f"the feed of {user} has {len(found[user])} activities, and should {expected}")
    return len(differing), seconds


def _same(found: Sequence[Activity], expected: Collection[Event]) -> bool:
    """Whether a feed has these, each once, in the order of their ids."""
    made: list[Any] = [
        (one.actor, one.verb, one.object.id, one.publish_time.ToMilliseconds()) for one in found
    ]
    wanted = {(one.actor, one.verb, one.object_id, one.ms) for one in expected}
    ordered = all(int(above.id) > int(below.id) for above, below in pairwise(found))
    return ordered and len(made) == len(expected) and set(made) == wanted
