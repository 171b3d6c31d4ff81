"""A whole week of Twitter: imported, measured, and read.

The Higgs data (docs/testing.md): 812,770 follows, most of which are inferred from interactions, and
563,069 activities, of 322,792 users. Limits have their defaults: a user with 23,737 followers is a
celebrity, whose activities are pulled. The scenario has no alternative and one round. It gives no
figures without the data and in a quick run.

- *Import*: by `feedsvc import`, follows and activities in two runs of the program. Rates are of the
  program's own `seconds`, without its start, and of the time after it until all is delivered. All
  feeds are cold. Rows that repeat an earlier row, or in which a user follows itself, do not count
  as follows.
- *Memory*: the growth of `used_memory` with the follows, divided by their number; with the
  activities, divided by theirs; with both, divided by the users; at rest as in `memory`. Records of
  requests, which expire after a minute, are deleted first.
- *Feeds*: those of 10,000 users, drawn at random, are read to their end over gRPC, 32 at a time,
  and compared with the files (`tests/data/oracle.py`): the same activities, each once, in order. No
  outbox is trimmed: no user has more than 656 activities.
"""

import asyncio
import gzip
import random
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity

from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.importing import data_folder, run_import
from benchmarks.load import population
from benchmarks.memory import at_rest
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.config import Limits
from feedsvc.core import keys
from tests.data.oracle import HIGGS_VERBS, DataSet, Event, Oracle

#: Files of each kind of rows, in the order of import.
FILES = {
    "follows": (
        "higgs-social_network.head355074.edgelist.gz",
        "derived-interaction-follow.tsv.gz",
    ),
    "activities": ("higgs-activity_time.txt.gz",),
}
#: Activities of a page.
PAGE = 100
#: Feeds that are read at once.
READERS = 32
#: Keys that one SCAN looks through.
KEYS = 5_000
SEED = 20_120_704
#: Differing feeds that are printed.
PRINTED = 10


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import."""

    rows: int
    seconds: float
    bytes: int
    """Bytes by which the store grew."""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return rates, bytes, and the number of feeds that differ."""
    if not scale.higgs_users:
        progress.print_line("higgs: skipped, this is a quick run")
        return []
    folder = data_folder("higgs", progress)
    if folder is None:
        return []
    data_set = await asyncio.to_thread(read, folder)
    async with open_stage() as stage:
        imported = {}
        for done, (kind, names) in enumerate(FILES.items()):
            progress.turn("the whole week", kind, done, len(FILES))
            imported[kind] = await _import(stage, [folder / name for name in names], kind)
        if [result.rows for result in imported.values()] != [
            data_set.follows,
            len(data_set.events),
        ]:
            raise RuntimeError(f"imported {imported}")
        users = _users(data_set)
        readers = random.Random(SEED).sample(users, scale.higgs_users)
        differing, seconds = await _compare(stage.client, data_set, readers, progress)
    return [
        *_import_figures(imported, len(users)),
        *_feed_figures(len(readers), differing, seconds),
    ]


def _import_figures(imported: dict[str, Imported], users: int) -> list[Figure]:
    follows, activities = imported["follows"], imported["activities"]
    return [
        *(
            Figure(
                f"import of the whole week, {kind}",
                f"{kind}/s",
                "",
                (result.rows / result.seconds,),
            )
            for kind, result in imported.items()
        ),
        *(
            Figure(f"memory of the whole week, to {share}", "bytes", "", (grown / count,))
            for share, grown, count in (
                ("each user", follows.bytes + activities.bytes, users),
                ("each follow", follows.bytes, follows.rows),
                ("each activity", activities.bytes, activities.rows),
            )
        ),
    ]


def _feed_figures(feeds: int, differing: int, seconds: float) -> list[Figure]:
    return [
        Figure("feeds of the whole week, read cold", "feeds/s", "", (feeds / seconds,)),
        Figure(
            f"feeds that differ, of {feeds:,} of the whole week",
            "feeds",
            "",
            (differing,),
            target="<= 0 feeds",
            absolute=True,
        ),
    ]


def read(folder: Path) -> DataSet:
    """Read the follows and the activities from the files."""
    events = (
        Event(actor=actor, verb=HIGGS_VERBS[kind], object_id=target, ms=1000 * int(seconds))
        for actor, target, seconds, kind in _rows(folder, FILES["activities"])
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


def _users(data_set: DataSet) -> list[str]:
    """Return all users that the files name."""
    names = (name for event in data_set.events for name in (event.actor, event.object_id))
    return sorted({*names, *data_set.followees, *data_set.followers})


async def _import(stage: Stage, files: Sequence[Path], kind: str) -> Imported:
    before = await at_rest(stage.redis)
    # Quiet: the import complains about each row in which a user follows itself.
    report = await asyncio.to_thread(run_import, stage.target, files, quiet=True)
    begun = time.monotonic()
    await population.all_delivered(stage.client)
    seconds = report["seconds"] + time.monotonic() - begun
    await _delete_request_records(stage)
    return Imported(report[kind], seconds, await at_rest(stage.redis) - before)


async def _delete_request_records(stage: Stage) -> None:
    for tag in keys.tags(stage.shards):
        cursor = -1
        while cursor:
            cursor, records = await stage.redis.scan(max(0, cursor), f"{tag}q:*", KEYS)
            if records:
                await stage.redis.unlink(*records)


async def _compare(
    client: FeedClient, data_set: DataSet, users: Sequence[str], progress: Progress
) -> tuple[int, float]:
    """Read feeds. Return the number of wrong feeds, and the seconds that reading them took."""
    oracle = Oracle(data_set, Limits().outbox_cap)
    feeds: dict[str, list[Activity]] = {}

    async def walk(user: str) -> None:
        pages = [page async for page in client.pages(user, page_size=PAGE)]
        feeds[user] = [item.activity.activity for page in pages for item in page.items]
        progress.advance()

    progress.begin(f"{len(users):,} feeds", len(users))
    begun = time.perf_counter()
    await in_lanes(users, walk, lanes=READERS)
    seconds = time.perf_counter() - begun
    differing = [
        user
        for user in users
        if not _same(feeds[user], [data_set.events[number] for number in oracle.feed(user)])
    ]
    for user in differing[:PRINTED]:
        expected = len(oracle.feed(user))
        progress.print_line(f"the feed of {user} has {len(feeds[user])} activities, not {expected}")
    return len(differing), seconds


def _same(feed: Sequence[Activity], expected: Collection[Event]) -> bool:
    """Return whether a feed has the expected activities, each once, in the order of their ids."""
    contents: list[Any] = [
        (
            activity.actor,
            activity.verb,
            activity.object.id,
            activity.publish_time.ToMilliseconds(),
        )
        for activity in feed
    ]
    wanted = {(event.actor, event.verb, event.object_id, event.ms) for event in expected}
    is_ordered = all(int(above.id) > int(below.id) for above, below in pairwise(feed))
    return is_ordered and len(contents) == len(expected) and set(contents) == wanted
