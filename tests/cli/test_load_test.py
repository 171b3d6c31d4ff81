"""The parts of `feedsvc bench`, without a server."""

import asyncio
import dataclasses
import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest, GetFeedResponse

from feedsvc.cli.load_test.batches import Batch, Recorder, clock
from feedsvc.cli.load_test.deliveries import Deliveries
from feedsvc.cli.load_test.latencies import Latencies
from feedsvc.cli.load_test.plan import EVENTS, Kind, Orders, Plan
from feedsvc.cli.load_test.population import Population, reached
from feedsvc.cli.load_test.report import as_dict, warnings
from feedsvc.cli.load_test.results import Results
from feedsvc.cli.load_test.traffic import Traffic, schedule

PLAN = Plan(
    server="127.0.0.1:1",
    prefix="bench-1",
    seed=7,
    users=20,
    follows=3,
    activities=0,
    skew=0,
    mix={Kind.READS: 1},
    page_size=20,
    content_bytes=0,
    subscriptions=0,
    rate=None,
    poisson=True,
    concurrency=4,
    processes=1,
    warm_up=0,
    duration=0.2,
    timeout=10,
)


def plan(**changes: Any) -> Plan:
    return dataclasses.replace(PLAN, **changes)


# Who: the population.


@pytest.mark.parametrize("skew", [0, 1, 3])
@pytest.mark.parametrize("follows", [0, 1, 3, 19])
def test_everybody_follows_as_many_others(follows: int, skew: float) -> None:
    found = Population(plan(follows=follows, skew=skew)).follows()
    assert list(found) == list(range(20))
    for user, followees in found.items():
        assert len({*followees, user}) == follows + 1


def test_popular_users_are_picked_more_often_if_there_is_skew() -> None:
    rng = random.Random(1)
    picks = [Population(plan(skew=1)).pick(rng) for _ in range(1000)]
    assert picks.count(0) > 3 * picks.count(10) > 0
    # Also by those who follow.
    followees = [one for some in Population(plan(skew=1)).follows().values() for one in some]
    assert followees.count(0) > 3 * followees.count(19)


def test_a_seed_repeats_the_choices() -> None:
    first, again, other = (Population(plan(seed=seed, skew=1)) for seed in (1, 1, 2))
    assert first.follows() == again.follows() != other.follows()


def test_streams_are_spread_over_the_users() -> None:
    streams = Population(plan(subscriptions=30)).streams()
    assert list(streams) == list(range(30))
    assert {streams[n] for n in range(20)} == set(range(20))
    assert [streams[n] for n in range(20, 30)] == [streams[n] for n in range(10)]


def test_an_activity_reaches_the_streams_of_followers_and_of_its_author() -> None:
    follows = {0: [1], 1: [], 2: [1, 0]}
    assert reached(follows, {10: 0, 11: 2, 12: 2}) == {
        0: {10, 11, 12},
        1: {10, 11, 12},
        2: {11, 12},
    }


# When: the schedule.


@pytest.mark.parametrize("begin", [50.0, 0.1, 12_345.678, 1e6 / 3])
def test_evenly_spaced_calls_are_so_over_all_processes(begin: float) -> None:
    constant = plan(rate=100, poisson=False, processes=2, duration=1, warm_up=1)
    due = sorted([*schedule(constant, 0, begin), *schedule(constant, 1, begin)])
    assert due[0] == begin
    assert [later - sooner for sooner, later in pairwise(due)] == pytest.approx([0.01] * 199)


def test_random_calls_have_the_rate_and_are_repeated_by_the_seed() -> None:
    poisson = plan(rate=1000, processes=2, duration=9, warm_up=1)
    due = list(schedule(poisson, 0, 50.0))
    assert len(due) == pytest.approx(5000, rel=0.1)
    assert 50 < due[0] < due[-1] < 60
    gaps = [later - sooner for sooner, later in pairwise(due)]
    # Half of them are below the median of the exponential distribution.
    assert sum(gap < 0.002 * 0.6931 for gap in gaps) == pytest.approx(2500, rel=0.1)
    assert due == list(schedule(poisson, 0, 50.0)) != list(schedule(poisson, 1, 50.0))


def test_connections_in_flight_are_shared_out() -> None:
    shared = plan(concurrency=8, processes=3)
    assert [shared.concurrency_of(process) for process in range(3)] == [3, 3, 2]


# The calls.


class Server:
    """Answers reads, except while it is stalled."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.running.set()
        self.released = 0.0
        self.reads = self.stalled = 0
        self.in_flight = self.most_in_flight = 0
        self.feeds = SimpleNamespace(GetFeed=self._get_feed)

    async def _get_feed(self, request: GetFeedRequest, **options: float) -> GetFeedResponse:
        self.reads += 1
        self.stalled += not self.running.is_set()
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        await self.running.wait()
        self.in_flight -= 1
        return GetFeedResponse()

    async def stall(self, seconds: float) -> None:
        self.running.clear()
        await asyncio.sleep(seconds)
        self.released = clock()
        self.running.set()


async def traffic(server: Any, load: Plan, begin: float | None = None) -> Batch:
    recorder = Recorder()
    orders = Orders(load, 0, {}, {})
    await Traffic(server, orders, recorder).run(begin or clock() + 0.05)
    return recorder.take()


async def test_a_closed_loop_has_its_calls_in_flight() -> None:
    server = Server()
    stall = asyncio.create_task(server.stall(0.1))
    await asyncio.sleep(0)
    batch = await traffic(server, plan(concurrency=4))
    await stall
    assert server.most_in_flight == 4
    assert server.stalled == 4
    assert len(batch.latencies[Kind.READS]) == server.reads > 4


@pytest.mark.parametrize("limit", [1, 5, 100])
async def test_an_open_loop_counts_the_wait_for_a_stalled_server(limit: int) -> None:
    server = Server()
    stall = asyncio.create_task(server.stall(0.35))
    await asyncio.sleep(0)
    load = plan(rate=100, poisson=False, concurrency=limit, duration=0.5)
    begin = clock() + 0.05
    batch = await traffic(server, load, begin)
    await stall
    latencies = sorted(batch.latencies[Kind.READS], reverse=True)
    assert len(latencies) == len(batch.late) == server.reads == 50
    assert server.most_in_flight <= limit
    # Each that was due in the stall waited for the rest of it, whether it was held or not.
    for number, latency in enumerate(latencies[:25]):
        assert latency / 1e6 >= server.released - (begin + number / 100) - 1e-5
    assert (batch.held > 0) == (limit < 25)
    assert batch.not_started == 0


async def test_calls_that_are_held_until_the_end_are_not_made_but_told() -> None:
    server = Server()
    stall = asyncio.create_task(server.stall(0.3))
    await asyncio.sleep(0)
    load = plan(rate=100, poisson=False, concurrency=2, duration=0.2)
    batch = await traffic(server, load)
    await stall
    assert (server.reads, batch.held, batch.not_started) == (2, 18, 18)


async def test_the_warm_up_is_not_counted() -> None:
    server = Server()
    load = plan(rate=100, poisson=False, warm_up=0.25, duration=0.125)
    batch = await traffic(server, load)
    assert server.reads == 38
    assert len(batch.latencies[Kind.READS]) == len(batch.late) == 13


async def test_errors_are_counted_by_reason_and_end_nothing() -> None:
    server = Server()
    metadata = grpc.aio.Metadata()

    async def refuse(request: GetFeedRequest, **options: float) -> None:
        server.reads += 1
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata)

    server.feeds.GetFeed = refuse
    batch = await traffic(server, plan(rate=100, poisson=False))
    assert batch.errors == {(Kind.READS, "UNAVAILABLE"): 20}
    assert server.reads == 20
    assert not batch.latencies[Kind.READS]


# Events and publishes.


def test_an_event_may_come_before_its_publish_is_answered() -> None:
    deliveries = Deliveries({1: frozenset({10, 11})})
    assert list(deliveries.arrived(500, 10, at=130)) == []
    assert list(deliveries.published(500, 1, due=100)) == [(100, 30)]
    assert deliveries.missing(since=0) == 1
    assert list(deliveries.arrived(500, 11, at=150)) == [(100, 50)]
    assert deliveries.missing(since=0) == 0


def test_events_are_missed_only_of_what_is_counted_and_reaches_a_stream() -> None:
    deliveries = Deliveries({1: frozenset({10, 11})})
    assert list(deliveries.published(500, 1, due=100)) == []
    assert list(deliveries.published(501, 2, due=200)) == []
    assert [deliveries.missing(since) for since in (100, 101)] == [2, 0]


def heard(load: Plan, *batches: Batch) -> Results:
    results = Results(load, {1: frozenset({10})})
    results.begin(0.0)
    for batch in batches:
        results.hear(batch)
    results.end(1000.0, interrupted=False)
    return results


def test_a_missed_event_fails_the_run() -> None:
    load = plan(mix={Kind.PUBLISHES: 1}, subscriptions=1)
    batch = Batch()
    batch.latencies[Kind.PUBLISHES].extend([50, 60])
    batch.published.extend([500, 1, 100, 501, 1, 200])
    batch.arrived.extend([500, 10, 130])
    results = heard(load, batch)
    assert not results.succeeded
    assert results.errors(EVENTS) == {"MISSED": 1}
    assert results.latencies[EVENTS].count == 1
    late = Batch()
    late.arrived.extend([501, 10, 300])
    assert heard(load, batch, late).succeeded


# What is reported.


def test_processes_add_up() -> None:
    rng = random.Random(3)
    values = [int(rng.expovariate(1 / 5000)) for _ in range(3000)]
    batches = []
    for part in (values[:1000], values[1000:]):
        batch = Batch(cpu=0.5, held=2)
        batch.latencies[Kind.READS].extend(part)
        batches.append(batch)
    results = heard(plan(processes=2), *batches)
    merged, whole = results.latencies[Kind.READS], Latencies()
    whole.record(values)
    assert merged.count == 3000
    assert merged.percentiles() == whole.percentiles()
    assert (results.cpu, results.held) == ([0.5, 0.5], 4)
    for share, value in zip((0.5, 0.9, 0.99, 0.999), merged.percentiles(), strict=True):
        assert value == pytest.approx(sorted(values)[int(share * 3000) - 1] / 1000, rel=0.01)
    assert merged.longest == max(values) / 1000


def test_the_distribution_is_what_plotters_read() -> None:
    latencies = Latencies()
    latencies.record([1000, 2000, 3000, 4000])
    head, empty, *rows, mean, longest, _ = latencies.distribution()
    assert head.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert empty == ""
    assert [float(one) for one in rows[0].split()] == [1.0, 0.0, 1, 1.0]
    assert [float(one) for one in rows[-1].split()] == pytest.approx([4.0, 1.0, 4], abs=0.01)
    assert mean == "#[Mean    =        2.501, StdDeviation   =        1.118]"
    assert longest.startswith("#[Max     =        4.000, TotalCount     =            4]")


def test_what_is_too_long_counts_as_the_longest() -> None:
    latencies = Latencies()
    latencies.record([10**12])
    assert (latencies.count, latencies.longest) == (1, 3_600_000)


def test_a_busy_generator_is_called_the_limit() -> None:
    assert [*warnings(heard(plan(), Batch(cpu=0.8)))] == []
    (told,) = warnings(heard(plan(), Batch(cpu=0.8), Batch(cpu=0.97)))
    assert "generator was the limit: a process used 97%" in told


def test_late_calls_are_told_with_what_made_them_late() -> None:
    load = plan(rate=10.0)
    by_itself = Batch()
    by_itself.late.extend([100] * 90 + [8000] * 10)
    (told,) = warnings(heard(load, by_itself))
    assert "generator itself began 1 % of the calls more than 8.0 ms late" in told
    (held,) = warnings(heard(load, by_itself, Batch(held=10)))
    assert "10 of 100 calls waited" in held
    unmade = heard(load, by_itself, Batch(held=10, not_started=5))
    assert "5 calls were still waiting at the end" in [*warnings(unmade)][1]
    assert not unmade.succeeded
    assert as_dict(unmade)["generator"] == {
        "cpu": [],
        "late_ms": {"p99": 8.0, "max": 8.0},
        "held": 10,
        "not_started": 5,
    }
