import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Service, wait_until

from .conftest import Feedsvc, ended
from .terminal import on_terminal

#: A small load for a short time.
SMALL = (
    "--users=12",
    "--follows=3",
    "--activities=6",
    "--page-size=5",
    "--warm-up=0.2",
    "--duration=0.5",
)
#: A small load of few calls, which are always the same.
FEW_CALLS = (*SMALL, "--rate=100", "--seed=4")


async def stored(service: Service, prefix: str) -> tuple[int, int]:
    """Return the number of follows and of activities of the users of a run."""
    users = [f"{prefix}:u{number}" for number in range(12)]
    return (
        sum([(await service.counts(user))[1] for user in users]),
        sum([len(await service.outbox(user, page_size=100)) for user in users]),
    )


def check_kind(kind: dict[str, Any]) -> None:
    assert kind["succeeded"] > 0
    assert (kind["failed"], kind["errors"]) == (0, {})
    assert kind["rate"] > 0
    figures = list(kind["ms"].values())
    assert list(kind["ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert 0 < figures[0] <= figures[-1]
    assert figures == sorted(figures)


async def test_a_closed_loop_measures_calls_and_events_and_cleans_up(
    service: Service, feedsvc: Feedsvc
) -> None:
    mix = "reads=2,deeper=1,publishes=1"
    ran = await feedsvc("bench", *SMALL, "--mix", mix, "--subscriptions", 5, "--json")
    assert (ran.code, ran.err) == (0, "")
    (report,) = ran.json
    assert report["ok"]
    assert (report["loop"], report["seconds"], report["interrupted"]) == ("closed", 0.5, False)
    assert list(report["kinds"]) == ["reads", "deeper", "publishes", "events"]
    for kind in report["kinds"].values():
        check_kind(kind)
    assert len(report["generator"]["cpu"]) == 1
    assert await stored(service, report["prefix"]) == (0, 0)


async def test_an_open_loop_of_several_processes_makes_exactly_the_planned_calls(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await feedsvc(
        *("bench", *SMALL, "--rate", 100, "--arrivals", "constant", "--processes", 2),
        *("--subscriptions", 5, "--keep", "--json"),
    )
    (report,) = ran.json
    assert (ran.code, ran.err, report["ok"], report["loop"]) == (0, "", True, "open")
    kinds = report["kinds"]
    assert kinds["reads"]["succeeded"] + kinds["publishes"]["succeeded"] == 50
    assert len(report["generator"]["cpu"]) == 2
    assert report["generator"]["not_started"] == 0
    # Publishes of the warm-up are kept, too.
    follows, activities = await stored(service, report["prefix"])
    assert follows == 12 * 3
    assert 12 * 6 + kinds["publishes"]["succeeded"] <= activities <= 12 * 6 + 70


async def test_the_result_is_a_table_with_notes(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("bench", *SMALL, "--seed", 4)
    assert (ran.code, ran.err) == (0, "")
    title, *rows, note, _cpu, sentence = ran.out.splitlines()
    assert title == "Closed loop of 8 calls, 1 process, 0.5 s, seed 4"
    assert rows[0].split() == ["reads", "publishes"]
    assert [row.split()[0] for row in rows[1:9]] == [
        "succeeded", "failed", "rate", "p50", "p90", "p99", "p99.9", "max",
    ]  # fmt: skip
    assert note.startswith("Latencies are the service times of a closed loop")
    assert sentence.startswith("The server answered all ")


async def test_a_distribution_of_each_kind_is_written(feedsvc: Feedsvc, tmp_path: Path) -> None:
    ran = await feedsvc("bench", *FEW_CALLS, "--histogram", tmp_path / "run.hgrm", "--json")
    for name in ("reads", "publishes"):
        lines = (tmp_path / f"run.{name}.hgrm").read_text().splitlines()
        (total,) = (line for line in lines if "TotalCount     =" in line)
        assert int(total.split()[-1].rstrip("]")) == ran.json[0]["kinds"][name]["succeeded"]


async def test_failed_calls_are_counted_and_fail_the_run(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await feedsvc("bench", *FEW_CALLS, "--timeout", "0.001ms", "--json")
    (report,) = ran.json
    assert (ran.code, report["ok"]) == (1, False)
    reads = report["kinds"]["reads"]
    assert reads["failed"] > 0
    assert reads["errors"] == {"DEADLINE_EXCEEDED": reads["failed"]}
    # The clean-up finds publishes that took effect though their calls failed.
    assert await stored(service, report["prefix"]) == (0, 0)


STOPPING = "stopping: removing the run's follows and activities (Ctrl-C again leaves them)"
#: A run that takes long, with few calls.
SLOW_RUN = ("--rate=50", "--warm-up=0.5", "--duration=60")
#: A load that takes long in each phase.
LONG = ("--users=40", "--follows=8", "--activities=10", *SLOW_RUN)
#: Phases before the run: a load that takes long in these takes much time of the processor.
PREPARING = ("follows", "activities", "reading")
#: A terminal that shows the name of each phase in a line of its own.
DUMB = {"TERM": "dumb"}


async def prefixes(service: Service) -> set[str]:
    """Return the prefixes of all runs that have stored anything."""
    keys = [key.decode() async for key in service.store.scan_iter(match="*bench-*")]
    return {match[0] for key in keys if (match := re.search("bench-[0-9a-f]{8}", key))}


async def test_ctrl_c_reports_the_results_so_far_and_cleans_up(
    service: Service, feedsvc: Feedsvc
) -> None:
    process = await feedsvc.start(
        "bench", *SMALL[:-1], "--duration", 60, "--subscriptions", 1, "--json"
    )

    async def streaming() -> bool:
        return bool([key async for key in service.store.scan_iter(match="*l:bench-*")])

    await wait_until(streaming)
    process.send_signal(signal.SIGINT)
    ran = await ended(process)
    assert (ran.code, ran.err) == (130, f"{STOPPING}\n")
    (report,) = ran.json
    assert report["interrupted"]
    assert await stored(service, report["prefix"]) == (0, 0)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("follows", signal.SIGINT),
        ("activities", signal.SIGINT),
        ("reading", signal.SIGINT),
        ("starting", signal.SIGINT),
        ("warming up", signal.SIGINT),
        ("running", signal.SIGINT),
        ("running", signal.SIGTERM),
    ],
)
async def test_a_signal_in_any_phase_is_answered_and_ends_the_run_cleanly(
    service: Service, feedsvc: Feedsvc, phase: str, number: signal.Signals
) -> None:
    options = LONG if phase in PREPARING else (*SMALL[:4], *SLOW_RUN)
    async with on_terminal(
        "bench", *options, server=feedsvc.server, columns=100, environment=DUMB
    ) as terminal:
        await terminal.shows(f"{phase}\r\n")
        terminal.press(number)
        await terminal.shows(f"{STOPPING}\r\nunfollowing\r\n")
        assert await terminal.code() == 128 + number
        await terminal.shows("nterrup")
        assert "Traceback" not in terminal.printed
    for prefix in await prefixes(service):
        assert await stored(service, prefix) == (0, 0)


@pytest.mark.parametrize("phase", ["unfollowing", "deleting"])
async def test_a_signal_during_the_clean_up_lets_it_end(
    service: Service, feedsvc: Feedsvc, phase: str
) -> None:
    options = (*LONG[:3], "--rate=50", "--warm-up=0", "--duration=0.5")
    async with on_terminal(
        "bench", *options, server=feedsvc.server, columns=100, environment=DUMB
    ) as terminal:
        await terminal.shows(f"{phase}\r\n")
        terminal.press(signal.SIGINT)
        await terminal.shows(STOPPING)
        assert await terminal.code() == 130
        await terminal.shows("The server answered all ")
    for prefix in await prefixes(service):
        assert await stored(service, prefix) == (0, 0)


@pytest.mark.parametrize("phase", ["activities", "starting", "running"])
async def test_a_second_ctrl_c_ends_at_once_and_says_how_to_remove_the_data(
    service: Service, feedsvc: Feedsvc, phase: str
) -> None:
    async with on_terminal(
        "bench", *LONG, server=feedsvc.server, columns=100, environment=DUMB
    ) as terminal:
        await terminal.shows(f"{phase}\r\n")
        terminal.press(signal.SIGINT)
        await terminal.shows(STOPPING)
        terminal.press(signal.SIGINT)
        assert await terminal.code() == 130
        await terminal.shows(f"--server {feedsvc.server}\r\n")
        *_, sentence, command = terminal.lines
    (prefix,) = await prefixes(service)
    assert sentence == f"The follows and activities of {prefix}:* stay. To remove them:"
    assert command == (f"  feedsvc bench --remove {prefix} --users 40 --server {feedsvc.server}")
    assert await stored(service, prefix) != (0, 0)
    ran = await feedsvc(*command.split()[1:])
    assert (ran.code, ran.out, ran.err) == (0, f"removed {prefix}:*\n", "")
    assert await stored(service, prefix) == (0, 0)


async def test_kept_data_can_be_removed_later(service: Service, feedsvc: Feedsvc) -> None:
    ran = await feedsvc("bench", *FEW_CALLS, "--keep")
    assert ran.code == 0
    (prefix,) = await prefixes(service)
    assert ran.err == (
        f"The follows and activities of {prefix}:* stay. To remove them:\n"
        f"  feedsvc bench --remove {prefix} --users 12 --server {feedsvc.server}\n"
    )
    ran = await feedsvc("bench", "--remove", prefix, "--users", 12, "--json")
    assert ran.json == [{"removed": prefix}]
    assert await stored(service, prefix) == (0, 0)


async def test_processes_end_with_a_killed_parent_and_print_nothing(
    service: Service, feedsvc: Feedsvc
) -> None:
    process = await feedsvc.start(
        "bench", *SMALL[:-1], "--duration", 60, "--processes", 2, "--subscriptions", 2
    )

    async def streaming() -> bool:
        return len([key async for key in service.store.scan_iter(match="*l:bench-*")]) == 2

    await wait_until(streaming)
    process.kill()
    # The output ends when the last process that could write it has ended.
    ran = await ended(process)
    assert (ran.code, ran.out, ran.err) == (-signal.SIGKILL, "", "")


async def test_a_missing_server_fails_the_run_at_once(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("bench", "--server", "127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: no server answers at 127.0.0.1:1")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--mix", "likes=1"], "kinds are reads, deeper, publishes"),
        (["--mix", "reads"], "'reads' is no kind and weight such as reads=80"),
        (["--mix", "reads=many"], "'reads=many' is no kind and weight"),
        (["--mix", "reads=1,reads=2"], "reads has two weights in the mix"),
        (["--mix", "reads=-1"], "the weight of reads must be 0 or more"),
        (["--mix", "reads=0"], "all weights of the mix are 0"),
        (["--rate", 5, "--concurrency", 2], "exclude each other"),
        (["--max-in-flight", 5], "--max-in-flight is for an open loop"),
        (["--users", 5, "--follows", 5], "--follows must be less than --users"),
        (
            ["--concurrency", 2, "--processes", 3],
            "must be at most the calls in flight",
        ),
        (["--mix", "deeper=1", "--activities", 0], "deeper reads need more than one page"),
        (["--remove", "alice"], "'alice' is no prefix of a run, such as bench-0a1b2c3d"),
        (["--histogram", "/no/where/run.hgrm"], "cannot write into '/no/where'"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    arguments: list[object], why: str, tmp_path: Path
) -> None:
    ran = await Feedsvc("127.0.0.1:1")("bench", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err


async def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = "raise ModuleNotFoundError('not installed', name='hdrh')\n"
    (tmp_path / "hdrh.py").write_text(without)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ran = await Feedsvc("127.0.0.1:1")("bench")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Error: the load generator needs hdrhistogram: pip install 'feedsvc[bench]'\n"
    )
