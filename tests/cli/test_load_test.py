"""The parts of the load generator, without a server."""

import asyncio
import dataclasses
import io
import random
from itertools import chain, pairwise
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest, GetFeedResponse
from rich.console import Console

from feedsvc.cli.load_test.clock import clock
from feedsvc.cli.load_test.deliveries import Deliveries
from feedsvc.cli.load_test.latencies import Latencies
from feedsvc.cli.load_test.measurements import Measurements, Recorder
from feedsvc.cli.load_test.pacing import OpenLoop, in_lanes
from feedsvc.cli.load_test.plan import EVENTS, Kind, Orders, Plan
from feedsvc.cli.load_test.population import Population, reached
from feedsvc.cli.load_test.progress import Progress
from feedsvc.cli.load_test.report import as_dict, conclusion, show, status_line, warnings
from feedsvc.cli.load_test.results import Results
from feedsvc.cli.load_test.traffic import Traffic, schedule
from tests.serving import wait_until

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


# The population.


@pytest.mark.parametrize("skew", [0, 1, 3])
@pytest.mark.parametrize("follows", [0, 1, 3, 19])
def test_every_user_follows_the_same_number_of_others(follows: int, skew: float) -> None:
    followees_of = Population(plan(follows=follows, skew=skew)).follows()
    assert list(followees_of) == list(range(20))
    for user, followees in followees_of.items():
        assert len({*followees, user}) == follows + 1


def test_skew_makes_popular_users_act_and_be_followed_more_often() -> None:
    rng = random.Random(1)
    picks = [Population(plan(skew=1)).pick(rng) for _ in range(1000)]
    assert picks.count(0) > 3 * picks.count(10) > 0
    # Followers pick them more often, too.
    followees = list(chain.from_iterable(Population(plan(skew=1)).follows().values()))
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


# The schedule.


@pytest.mark.parametrize("begin", [50.0, 0.1, 12_345.678, 1e6 / 3])
def test_evenly_spaced_calls_are_evenly_spaced_over_all_processes(begin: float) -> None:
    constant = plan(rate=100, poisson=False, processes=2, duration=1, warm_up=1)
    due = sorted([*schedule(constant, 100, 0, begin), *schedule(constant, 100, 1, begin)])
    assert due[0] == begin
    assert [later - sooner for sooner, later in pairwise(due)] == pytest.approx([0.01] * 199)


def test_random_calls_have_the_planned_rate_and_the_seed_repeats_them() -> None:
    poisson = plan(rate=1000, processes=2, duration=9, warm_up=1)
    due = list(schedule(poisson, 1000, 0, 50.0))
    assert len(due) == pytest.approx(5000, rel=0.1)
    assert 50 < due[0] < due[-1] < 60
    gaps = [later - sooner for sooner, later in pairwise(due)]
    # Half of them are below the median of the exponential distribution.
    assert sum(gap < 0.002 * 0.6931 for gap in gaps) == pytest.approx(2500, rel=0.1)
    assert due == list(schedule(poisson, 1000, 0, 50.0)) != list(schedule(poisson, 1000, 1, 50.0))


def test_processes_share_the_calls_in_flight() -> None:
    shared = plan(concurrency=8, processes=3)
    assert [shared.concurrency_of(process) for process in range(3)] == [3, 3, 2]


# The calls.


class Server:
    """A server that answers reads, except while it is stalled."""

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


async def traffic(server: Any, load: Plan, begin: float | None = None) -> Measurements:
    recorder = Recorder()
    orders = Orders(load, 0, {}, {})
    await Traffic(server, orders, recorder).run(begin or clock() + 0.05)
    return recorder.take()


async def test_a_closed_loop_always_has_its_number_of_calls_in_flight() -> None:
    server = Server()
    stall = asyncio.create_task(server.stall(0.1))
    await asyncio.sleep(0)
    measured = await traffic(server, plan(concurrency=4))
    await stall
    assert server.most_in_flight == 4
    assert server.stalled == 4
    assert len(measured.latencies[Kind.READS]) == server.reads > 4


@pytest.mark.parametrize("limit", [1, 5, 100])
async def test_an_open_loop_counts_the_wait_for_a_stalled_server(limit: int) -> None:
    server = Server()
    stall = asyncio.create_task(server.stall(0.35))
    await asyncio.sleep(0)
    load = plan(rate=100, poisson=False, concurrency=limit, duration=0.5)
    begin = clock() + 0.05
    measured = await traffic(server, load, begin)
    await stall
    latencies = sorted(measured.latencies[Kind.READS], reverse=True)
    assert len(latencies) == len(measured.late) == server.reads == 50
    assert server.most_in_flight <= limit
    # A call that was due in the stall waited for the rest of it, whether it was held or not.
    for number, latency in enumerate(latencies[:25]):
        assert latency / 1e6 >= server.released - (begin + number / 100) - 1e-5
    assert (measured.held > 0) == (limit < 25)
    assert measured.not_started == 0


async def test_calls_that_are_held_until_the_end_are_counted_but_not_made() -> None:
    server = Server()
    stall = asyncio.create_task(server.stall(0.3))
    await asyncio.sleep(0)
    load = plan(rate=100, poisson=False, concurrency=2, duration=0.2)
    measured = await traffic(server, load)
    await stall
    assert (server.reads, measured.held, measured.not_started) == (2, 18, 18)


async def test_the_warm_up_is_not_counted() -> None:
    server = Server()
    load = plan(rate=100, poisson=False, warm_up=0.25, duration=0.125)
    measured = await traffic(server, load)
    assert server.reads == 38
    assert len(measured.latencies[Kind.READS]) == len(measured.late) == 13


async def test_errors_are_counted_by_reason_and_do_not_end_the_run() -> None:
    server = Server()
    metadata = grpc.aio.Metadata()

    async def refuse(request: GetFeedRequest, **options: float) -> None:
        server.reads += 1
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata)

    server.feeds.GetFeed = refuse
    measured = await traffic(server, plan(rate=100, poisson=False))
    assert measured.errors == {(Kind.READS, "UNAVAILABLE"): 20}
    assert server.reads == 20
    assert not measured.latencies[Kind.READS]


async def test_a_loop_without_limit_begins_calls_while_none_is_answered() -> None:
    answered = asyncio.Event()
    in_flight: list[float] = []

    async def call(due: float, is_held: bool) -> None:
        assert not is_held
        in_flight.append(due)
        await answered.wait()

    begin = clock()
    due_times = [begin + number / 1000 for number in range(50)]
    running = asyncio.create_task(OpenLoop(iter(due_times), call, max_in_flight=None).run())

    async def all_began() -> bool:
        return len(in_flight) == len(due_times)

    await wait_until(all_began)
    assert in_flight == due_times
    answered.set()
    await running


async def test_a_stopped_loop_begins_no_more_calls_and_waits_for_answers() -> None:
    answered = asyncio.Event()
    calls: list[float] = []

    async def call(due: float, _: bool) -> None:
        calls.append(due)
        await answered.wait()

    due_times = (clock() + offset for offset in (0, 60, 61))
    loop = OpenLoop(due_times, call, max_in_flight=3)
    running = asyncio.create_task(loop.run())

    async def first_began() -> bool:
        return bool(calls)

    await wait_until(first_began)
    loop.stop()
    await asyncio.sleep(0)
    assert not running.done()
    answered.set()
    await asyncio.wait_for(running, 5)
    assert len(calls) == 1


async def test_the_first_error_in_a_lane_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(0 if number == 1 else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        await in_lanes(range(9), work, lanes=3)
    assert sorted(cancelled) == [0, 2]


# Events and publishes.


def test_an_event_that_comes_before_its_publish_is_answered_counts() -> None:
    deliveries = Deliveries({1: frozenset({10, 11})})
    assert list(deliveries.arrived(500, 10, arrival=130)) == []
    assert list(deliveries.published(500, 1, due=100)) == [(100, 30)]
    assert deliveries.missing(since=0) == 1
    assert list(deliveries.arrived(500, 11, arrival=150)) == [(100, 50)]
    assert deliveries.missing(since=0) == 0


def test_only_counted_publishes_that_reach_a_stream_miss_events() -> None:
    deliveries = Deliveries({1: frozenset({10, 11})})
    assert list(deliveries.published(500, 1, due=100)) == []
    assert list(deliveries.published(501, 2, due=200)) == []
    assert [deliveries.missing(since) for since in (100, 101)] == [2, 0]


def heard(load: Plan, *measurements: Measurements) -> Results:
    results = Results(load, {1: frozenset({10})})
    results.begin(0.0)
    for measured in measurements:
        results.hear(measured)
    results.end(1000.0, interrupted=False)
    return results


def test_a_missed_event_fails_the_run() -> None:
    load = plan(mix={Kind.PUBLISHES: 1}, subscriptions=1)
    measured = Measurements()
    measured.latencies[Kind.PUBLISHES].extend([50, 60])
    measured.published.extend([500, 1, 100, 501, 1, 200])
    measured.arrived.extend([500, 10, 130])
    results = heard(load, measured)
    assert not results.succeeded
    assert results.errors(EVENTS) == {"MISSED": 1}
    assert results.latencies[EVENTS].count == 1
    late = Measurements()
    late.arrived.extend([501, 10, 300])
    assert heard(load, measured, late).succeeded


# The report.


def test_measurements_of_processes_add_up() -> None:
    rng = random.Random(3)
    values = [int(rng.expovariate(1 / 5000)) for _ in range(3000)]
    measurements = []
    for part in (values[:1000], values[1000:]):
        measured = Measurements(cpu=0.5, held=2)
        measured.latencies[Kind.READS].extend(part)
        measurements.append(measured)
    results = heard(plan(processes=2), *measurements)
    merged, whole = results.latencies[Kind.READS], Latencies()
    whole.record(values)
    assert merged.count == 3000
    assert merged.percentiles() == whole.percentiles()
    assert (results.cpu, results.held) == ([0.5, 0.5], 4)
    for share, value in zip((0.5, 0.9, 0.99, 0.999), merged.percentiles(), strict=True):
        assert value == pytest.approx(sorted(values)[int(share * 3000) - 1] / 1000, rel=0.01)
    assert merged.longest == max(values) / 1000


def test_the_distribution_has_the_format_of_the_plotters() -> None:
    latencies = Latencies()
    latencies.record([1000, 2000, 3000, 4000])
    head, empty, *rows, mean, longest, _ = latencies.distribution()
    assert head.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert empty == ""
    assert [float(word) for word in rows[0].split()] == [1.0, 0.0, 1, 1.0]
    assert [float(word) for word in rows[-1].split()] == pytest.approx([4.0, 1.0, 4], abs=0.01)
    assert mean == "#[Mean    =        2.501, StdDeviation   =        1.118]"
    assert longest.startswith("#[Max     =        4.000, TotalCount     =            4]")


def test_a_latency_of_more_than_an_hour_counts_as_an_hour() -> None:
    latencies = Latencies()
    latencies.record([10**12])
    assert (latencies.count, latencies.longest) == (1, 3_600_000)


def test_a_busy_generator_is_reported_as_the_limit() -> None:
    assert [*warnings(heard(plan(), Measurements(cpu=0.8)))] == []
    (warning,) = warnings(heard(plan(), Measurements(cpu=0.8), Measurements(cpu=0.97)))
    assert "generator was the limit: a process used 97%" in warning


def test_the_warning_about_late_calls_names_the_cause() -> None:
    load = plan(rate=10.0)
    measured = Measurements()
    measured.late.extend([100] * 90 + [8000] * 10)
    (warning,) = warnings(heard(load, measured))
    assert "generator itself began 1 % of the calls more than 8.0 ms late" in warning
    (warning,) = warnings(heard(load, measured, Measurements(held=10)))
    assert "10 of 100 calls waited" in warning
    not_made = heard(load, measured, Measurements(held=10, not_started=5))
    assert "5 calls were still waiting at the end" in [*warnings(not_made)][1]
    assert not not_made.succeeded
    assert as_dict(not_made)["generator"] == {
        "cpu": [],
        "late_ms": {"p99": 8.0, "max": 8.0},
        "held": 10,
        "not_started": 5,
    }


def measured_calls(**changes: Any) -> Measurements:
    """Return the measurements of three kinds of calls."""
    measured = Measurements(**changes)
    measured.latencies[Kind.READS].extend([1_000, 2_500, 40_000, 1_234_567])
    measured.latencies[Kind.DEEPER].extend([25_000_000])
    measured.latencies[Kind.PUBLISHES].extend([123_456])
    measured.answered.update({Kind.READS: 4, Kind.DEEPER: 1, Kind.PUBLISHES: 1})
    measured.errors["publishes", "UNAVAILABLE"] = 2
    return measured


def counted(load: Plan, measured: Measurements) -> Results:
    """Return the results of a run that began at the second 1 and counted all its seconds."""
    results = Results(load, {1: frozenset({10})})
    results.begin(1.0)
    results.hear(measured)
    results.end(1000.0, interrupted=False)
    return results


ALL_KINDS = plan(mix=dict.fromkeys(Kind, 1), activities=20, subscriptions=1, duration=2)


def lines_of(results: Results, columns: int) -> list[str]:
    out = Console(file=io.StringIO(), width=columns, soft_wrap=True, highlight=False)
    show(results, out)
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_report_of_all_kinds_fits_into_60_columns() -> None:
    assert lines_of(counted(ALL_KINDS, measured_calls(cpu=0.25)), 60) == [
        "Closed loop of 4 calls, 1 process, 2.0 s, seed 7",
        "              reads  deeper  publishes  events",
        "succeeded         4       1          1       0",
        "failed            0       0          2       0",
        "rate          2.0/s   0.5/s      0.5/s   0.0/s",
        "p50         2.50 ms  25.0 s   123.5 ms       -",
        "p90        1,235 ms  25.0 s   123.5 ms       -",
        "p99        1,235 ms  25.0 s   123.5 ms       -",
        "p99.9      1,235 ms  25.0 s   123.5 ms       -",
        "max        1,235 ms  25.0 s   123.5 ms       -",
        "Failed publishes: 2 UNAVAILABLE",
        "Latencies are the service times of a closed loop, which",
        "  makes fewer calls when the server is slow. Use --rate to",
        "  see what callers would wait.",
        "Events: from when the publish was due; through 1 stream.",
        "Client CPU: 25% of a core.",
        "The server answered 6 of 8 calls in 2.0 s, 99 % of each kind",
        "  within 25.0 s.",
    ]


def test_a_narrow_report_has_several_tables() -> None:
    lines = lines_of(counted(ALL_KINDS, measured_calls()), 40)
    assert max(map(len, lines)) <= 40
    assert [line.split() for line in lines if "reads" in line or "events" in line] == [
        ["reads", "deeper"],
        ["publishes", "events"],
    ]


def test_the_report_ends_with_the_result_in_one_sentence() -> None:
    reads = Measurements()
    reads.latencies[Kind.READS].extend([1_500] * 10)
    assert conclusion(counted(plan(), reads)) == (
        "The server answered all 10 calls in 0.2 s, 99 % within 1.50 ms."
    )
    reads.errors[Kind.READS, "UNAVAILABLE"] = 1
    reads.cpu = 0.97
    assert conclusion(counted(plan(), reads)) == (
        "The server answered 10 of 11 calls in 0.2 s, 99 % within 1.50 ms; read the warnings first."
    )
    load = plan(mix={Kind.PUBLISHES: 1}, subscriptions=1)
    missed = Measurements()
    missed.latencies[Kind.PUBLISHES].append(50)
    missed.published.extend([500, 1, 2_000_000])
    assert conclusion(counted(load, missed)) == (
        "The server answered all 1 call in 0.2 s, 99 % within 0.05 ms, but 1 event never came."
    )


def test_an_interrupted_run_says_so() -> None:
    results = Results(plan(warm_up=10), {})
    results.end(1.0, interrupted=True)
    sentence = "The run was interrupted before the first call that counts: it has no results."
    assert lines_of(results, 100) == [sentence]
    results.begin(0.0)
    results.end(10.1, interrupted=True)
    assert conclusion(results) == "Until the interruption, the server answered no calls."


def test_the_status_shows_no_rate_before_calls_were_counted_for_a_while() -> None:
    results = counted(ALL_KINDS, measured_calls())
    assert status_line(results, 1.1) == ""
    assert status_line(results, 3) == "3/s  p99 25.0 s  failed 2"


def test_a_line_of_a_signal_handler_that_interrupts_a_write_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(quiet=True)
    progress._out.file = Interrupted()
    progress.print_line("stopping")
    progress.print_command("feedsvc bench --remove bench-1")
    assert capfd.readouterr().err == "stopping\n  feedsvc bench --remove bench-1\n"


class Interrupted(io.StringIO):
    """A stream in the middle of a write, which Python lets no signal handler write to."""

    def write(self, text: str) -> int:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
