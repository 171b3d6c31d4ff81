"""The options of settings: durations, names of earlier versions, refusals, and ``--help``."""

import re
import runpy
from pathlib import Path
from typing import Any

import click
import pytest

from feedsvc.cli.option_groups import GroupedCommand, grouped_options, heading
from feedsvc.cli.serve import serve, worker
from feedsvc.cli.settings import (
    SettingOption,
    config_from_options,
    settings_options,
    start_errors_in_one_line,
)
from feedsvc.config import Config, Group

ROOT = Path(__file__).resolve().parents[2]
#: The arguments that a command needs in any case.
NEEDED = {serve: [], worker: ["--redis-url", "redis://h"]}
COMMANDS = pytest.mark.parametrize("command", [serve, worker], ids=["serve", "worker"])


def parsed(*arguments: object, command: click.Command = serve) -> dict[str, Any]:
    """Return the values of a command's options."""
    texts = NEEDED[command] + [str(argument) for argument in arguments]
    with command.make_context(command.name, texts) as context:
        return context.params


def refused(*arguments: object, command: click.Command = serve) -> str:
    """Return the words with which a command refuses its options."""
    with pytest.raises(click.BadParameter) as refusal:
        parsed(*arguments, command=command)
    return refusal.value.format_message()


def help_of(command: click.Command) -> str:
    return command.get_help(click.Context(command, info_name=command.name))


@pytest.mark.parametrize(
    ("flag", "text", "name", "seconds"),
    [
        ("--feed-ttl", "60d", "feed_ttl", 60 * 86_400),
        ("--log-lease", "1h30m", "log_lease", 5_400),
        ("--drain-timeout", "0", "drain_seconds", 0),
        ("--heartbeat-interval", "250ms", "checkpoint_seconds", 0.25),
        ("--max-stream-age", "2d", "stream_seconds", 2 * 86_400),
        ("--write-timeout", "0.5", "write_seconds", 0.5),
        ("--keepalive-interval", "5m", "keepalive_seconds", 300),
    ],
)
def test_a_setting_of_seconds_takes_a_duration(
    flag: str, text: str, name: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parsed(flag, text)[name] == seconds
    monkeypatch.setenv("FEEDSVC_" + flag.removeprefix("--").replace("-", "_").upper(), text)
    assert parsed()[name] == seconds


def test_all_settings_of_seconds_are_durations_of_the_type_of_the_setting() -> None:
    options = [option for option in serve.params if isinstance(option, SettingOption)]
    seconds = {option.name for option in options if option.type.name == "duration"}
    assert seconds == {
        *("feed_ttl", "build_ttl", "request_ttl", "delivery_ttl", "job_lease", "log_lease"),
        *("checkpoint_seconds", "stream_seconds", "write_seconds", "keepalive_seconds"),
        "drain_seconds",
    }
    assert config_from_options(parsed()) == Config()
    assert isinstance(parsed("--feed-ttl", "60s")["feed_ttl"], int)


FORMER = [
    ("checkpoint-seconds", "heartbeat-interval", "checkpoint_seconds", 20),
    ("stream-seconds", "max-stream-age", "stream_seconds", 60),
    ("write-seconds", "write-timeout", "write_seconds", 5),
    ("keepalive-seconds", "keepalive-interval", "keepalive_seconds", 7),
    ("drain-seconds", "drain-timeout", "drain_seconds", 3),
]


@pytest.mark.parametrize(("former", "flag", "name", "seconds"), FORMER)
def test_a_former_flag_and_variable_keep_working(
    former: str, flag: str, name: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parsed(f"--{former}", seconds)[name] == seconds
    monkeypatch.setenv(f"FEEDSVC_{former.replace('-', '_').upper()}", str(seconds))
    assert parsed()[name] == seconds
    monkeypatch.setenv(f"FEEDSVC_{flag.replace('-', '_').upper()}", "8s")
    assert parsed()[name] == 8, "the variable of today wins"


@pytest.mark.parametrize(("former", "flag", "name", "seconds"), FORMER)
def test_help_does_not_show_a_former_flag(former: str, flag: str, name: str, seconds: int) -> None:
    text = help_of(serve)
    assert f"  --{flag} DURATION " in text
    assert former not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--feed-ttl", "10x"],
            (
                "Invalid value for '--feed-ttl' (env var: 'FEEDSVC_FEED_TTL'): '10x' is not a "
                "duration: write a number with a unit, such as 500ms, 10s, 5m, 12h or 30d"
            ),
        ),
        (
            ["--checkpoint-seconds", "2h"],
            (
                "Invalid value for '--heartbeat-interval' (env var: 'FEEDSVC_HEARTBEAT_INTERVAL'): "
                "must be 10ms to 1h, not 2h"
            ),
        ),
        (
            ["--job-lease", "1500ms"],
            (
                "Invalid value for '--job-lease' (env var: 'FEEDSVC_JOB_LEASE'): must be a whole "
                "number of seconds, not 1500ms"
            ),
        ),
        (
            ["--port", 70_000],
            "Invalid value for '--port' (env var: 'FEEDSVC_PORT'): must be 0 to 65535, not 70000",
        ),
        (
            ["--max-request-bytes", 1],
            (
                "Invalid value for '--max-request-bytes' (env var: 'FEEDSVC_MAX_REQUEST_BYTES'): "
                "must be 64 KiB to 64 MiB, not 1"
            ),
        ),
        (
            ["--max-jobs", "x"],
            (
                "Invalid value for '--max-jobs' (env var: 'FEEDSVC_MAX_JOBS'): 'x' is not a valid "
                "integer."
            ),
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_flag_and_the_rule(
    arguments: list[object], message: str
) -> None:
    assert refused(*arguments) == message


def test_a_worker_needs_a_worker() -> None:
    assert refused("--workers", 0, command=worker) == (
        "Invalid value for '--workers' (env var: 'FEEDSVC_WORKERS'): must be 1 to 16, not 0"
    )


def test_a_wrong_value_of_a_former_variable_is_refused_by_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEEDSVC_DRAIN_SECONDS", "never")
    assert refused().startswith(
        "Invalid value for '--drain-timeout' (env var: 'FEEDSVC_DRAIN_SECONDS'): 'never' is not a "
        "duration"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shards", 3], "--shards must be a power of two, not 3"),
        (
            ["--outbox-cap", 500],
            (
                "--outbox-cap (500) must be at least --feed-cap + --feed-slack (850): a warm feed "
                "must not keep an activity that its outbox has dropped"
            ),
        ),
        (
            ["--heartbeat-interval", "10m"],
            (
                "--heartbeat-interval (10m) must be at most a third of --log-lease (15m): a quiet "
                "stream keeps its log by reading it at each heartbeat"
            ),
        ),
    ],
)
def test_a_broken_rule_names_the_flags_and_shows_units(
    arguments: list[object], message: str
) -> None:
    with pytest.raises(click.ClickException) as refusal, start_errors_in_one_line():
        config_from_options(parsed(*arguments))
    assert refusal.value.message == message


@COMMANDS
def test_help_shows_every_option_once_under_its_heading(command: click.Command) -> None:
    text = help_of(command)
    context = click.Context(command)
    groups = grouped_options(command, context)
    grouped = [option.name for options in groups.values() for option in options]
    assert sorted(grouped) == sorted(option.name for option in command.get_params(context))
    headings = [f"\n{heading(group)}:\n" for group in groups]
    positions = [text.index(line) for line in headings]
    assert positions == sorted(positions)
    for option in command.get_params(context):
        assert len(re.findall(rf"^  (?:-h, )?{option.opts[-1]}(?= |$)", text, re.MULTILINE)) == 1


@COMMANDS
def test_the_options_of_the_first_week_come_first(command: click.Command) -> None:
    options = grouped_options(command, click.Context(command))[Group.EVERYDAY]
    everyday = [option.name for option in options]
    first = ["redis_url", "workers", "log_level"]
    if command is serve:
        first = ["host", "port", "redis_url", "data_dir", "workers", "drain_seconds", "log_level"]
    assert [name for name in everyday if name in first] == first
    assert "--help" in options[-1].opts


def test_an_option_that_is_no_setting_is_an_everyday_option() -> None:
    @click.command(cls=GroupedCommand)
    @settings_options("shards", "workers", "host")
    @click.option("--other")
    @click.option("--wait")
    def command(**_: object) -> None: ...

    groups = grouped_options(command, click.Context(command))
    flags = {group: [option.opts[-1] for option in options] for group, options in groups.items()}
    assert flags == {
        Group.EVERYDAY: ["--host", "--wait", "--workers", "--other", "--help"],
        Group.FOREVER: ["--shards"],
    }


@COMMANDS
def test_help_of_every_option_is_whole_sentences(command: click.Command) -> None:
    for option in command.params:
        assert option.help, option.name
        assert option.help.endswith("."), option.name


def test_help_shows_defaults_and_ranges_with_units() -> None:
    text = " ".join(help_of(serve).split())
    assert "[default: 30d; 1s to 366d]" in text
    assert "[default: 15s; 10ms to 1h]" in text
    assert "[default: 800; 10 to 4000]" in text
    assert "[default: 4194304 = 4 MiB; 64 KiB to 64 MiB]" in text
    assert "[default: an embedded store in --data-dir]" in text
    assert "[required]" in " ".join(help_of(worker).split())


@COMMANDS
def test_help_says_which_settings_all_servers_share(command: click.Command) -> None:
    text = help_of(command)
    for name in ("Feeds", "Deliveries", "Resumes and retries"):
        assert f"\n{name} (the same values for all servers and workers of a store):\n" in text
    assert "\nOnce and for ever (the store keeps the number that it was created with):\n" in text


@COMMANDS
def test_help_never_breaks_a_flag_at_its_hyphen(command: click.Command) -> None:
    _, options = help_of(command).split("Everyday options:")
    assert not re.findall(r"\w-$", options, re.MULTILINE)
    assert "\N{NON-BREAKING HYPHEN}" not in options


def test_the_page_of_settings_is_what_make_gen_writes() -> None:
    document = runpy.run_path(str(ROOT / "tools" / "settings-table"))["document"]
    assert (ROOT / "docs" / "settings.md").read_text() == document()
