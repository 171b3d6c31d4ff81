"""The banner and the warnings of a server or worker that starts: their exact words."""

import dataclasses
import sys
from pathlib import Path

import pytest

from feedsvc.cli.banner import print_banner, program, server_option, server_rows, worker_rows
from feedsvc.cli.start_warnings import server_warnings, store_warnings
from feedsvc.config import Config
from feedsvc.core.store_facts import KeySample, Persistence, StoreFacts
from feedsvc.process import Survey
from feedsvc.server_status import VERSION

FACTS = StoreFacts(
    product="Valkey",
    version="9.1.0",
    persistence=Persistence.SYNCED_ALWAYS,
    eviction_policy="noeviction",
    used_memory=1_000_000,
    max_memory=4_000_000,
    keys=12_000,
    replicas=0,
    uptime_seconds=60,
    read_time=0.0,
)
URL = "redis://user:s3cret@feeds.example.org/1"
OWN = Survey(FACTS, KeySample(1_000, 0))


def survey(**facts: object) -> Survey:
    return Survey(dataclasses.replace(FACTS, **facts), KeySample(1_000, 0))  # type: ignore[arg-type]


def test_store_without_a_fault_has_no_warning() -> None:
    assert server_warnings(Config(redis_url=URL), OWN) == []
    assert server_warnings(Config(), survey(max_memory=0)) == []


@pytest.mark.parametrize(
    ("persistence", "warning"),
    [
        (
            Persistence.SYNCED_EVERY_SECOND,
            (
                "the store syncs its append-only file once a second: a crash of its machine may "
                "lose the writes of the last two seconds; run `CONFIG SET appendfsync always` on "
                "the store to lose none"
            ),
        ),
        (
            Persistence.NOT_SYNCED,
            (
                "the store leaves it to the operating system when its append-only file reaches "
                "the disk: a crash of its machine may lose the writes of the last half minute; "
                "run `CONFIG SET appendfsync always` on the store to lose none"
            ),
        ),
        (
            Persistence.APPEND_ONLY_FILE,
            (
                "the store does not let feedsvc read how often it syncs its append-only file: "
                "see that `appendfsync` is `always`, or a crash may lose the last writes"
            ),
        ),
        (
            Persistence.SNAPSHOTS,
            (
                "the store has no append-only file: a crash loses all writes since its last "
                "snapshot; run `CONFIG SET appendonly yes` and `CONFIG SET appendfsync always` "
                "on the store"
            ),
        ),
        (
            Persistence.NONE,
            (
                "the store keeps nothing on disk: a crash loses all data; run `CONFIG SET "
                "appendonly yes` and `CONFIG SET appendfsync always` on the store"
            ),
        ),
    ],
)
def test_store_that_may_lose_writes_is_named(persistence: Persistence, warning: str) -> None:
    assert store_warnings(Config(redis_url=URL), survey(persistence=persistence)) == [warning]


def test_keys_of_other_programs_are_named() -> None:
    assert store_warnings(Config(redis_url=URL), Survey(FACTS, KeySample(1_004, 37))) == [
        (
            "the store's database also holds keys of other programs (37 of 1,004 keys looked at, "
            "12,000 in all): give feedsvc a database of its own, by the number at the end of "
            "--redis-url, or a store of its own"
        )
    ]


def test_store_without_a_memory_limit_is_named() -> None:
    assert store_warnings(Config(redis_url=URL), survey(max_memory=0)) == [
        (
            "the store has no memory limit: it may grow until the system ends it; run `CONFIG SET "
            "maxmemory <bytes>` on the store, well below the memory of its machine"
        )
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "feeds"])  # noqa: S104 (not bound)
def test_address_beyond_this_machine_is_named(host: str) -> None:
    assert server_warnings(Config(redis_url=URL, host=host), OWN) == [
        (
            f"the server listens on {host}, beyond this machine, and has no authentication: let "
            "only trusted programs reach its port, or give --host 127.0.0.1"
        )
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_warning(host: str) -> None:
    assert server_warnings(Config(redis_url=URL, host=host), OWN) == []


def test_server_without_workers_is_named() -> None:
    assert server_warnings(Config(redis_url=URL, workers=0), OWN) == [
        (
            "the server has no workers (--workers 0): an activity for more than 1,000 followers "
            "waits until a `feedsvc worker` process delivers it"
        )
    ]


def test_store_that_does_not_answer_is_named() -> None:
    assert store_warnings(Config(redis_url=URL), Survey(None, None)) == [
        "the store does not answer questions about its settings: run `feedsvc status`"
    ]


def test_banner_of_a_server_shows_the_store_without_its_password() -> None:
    rows = server_rows(Config(redis_url=URL, host="::", workers=3), 6_000, OWN)
    assert rows == [
        ("listens on", "[::]:6000"),
        ("store", "Valkey 9.1.0"),
        ("", "at redis://feeds.example.org:6379/1"),
        ("persistence", "append-only file, synced always"),
        ("eviction", "none (noeviction)"),
        ("shards", "16"),
        ("workers", "3"),
        ("try next", "feedsvc tail alice --server [::1]:6000"),
    ]
    assert max(len(value) for _, value in rows) <= 45


def test_banner_of_a_worker_names_no_address() -> None:
    assert worker_rows(Config(redis_url="redis://one"), survey(eviction_policy="x")) == [
        ("store", "Valkey 9.1.0 at redis://one:6379/0"),
        ("persistence", "append-only file, synced always"),
        ("eviction", "x"),
        ("shards", "16"),
        ("workers", "2"),
        ("try next", "feedsvc fanout"),
    ]


def test_banner_shows_a_store_that_does_not_answer(tmp_path: Path) -> None:
    rows = server_rows(Config(data_dir=tmp_path), 50_051, Survey(None, None))
    assert rows[1:3] == [("store", "does not answer, embedded"), ("data", str(tmp_path))]
    assert rows[-1] == ("try next", "feedsvc tail alice")


@pytest.mark.parametrize(
    ("host", "port", "option"),
    [
        ("127.0.0.1", 50_051, ""),
        ("0.0.0.0", 50_051, ""),  # noqa: S104 (not bound)
        ("127.0.0.1", 6_000, " --server 127.0.0.1:6000"),
        ("::1", 50_051, " --server [::1]:50051"),
        ("feeds.example.org", 50_051, " --server feeds.example.org:50051"),
    ],
)
def test_next_command_reaches_the_server(host: str, port: int, option: str) -> None:
    assert server_option(host, port) == option


@pytest.mark.parametrize(
    ("started_as", "is_on_path", "shown"),
    [
        (".venv/bin/feedsvc", False, ".venv/bin/feedsvc"),
        (".venv/bin/feedsvc", True, "feedsvc"),
        ("feedsvc/__main__.py", False, "feedsvc"),
    ],
)
def test_next_command_is_found_by_the_shell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started_as: str,
    is_on_path: bool,
    shown: str,
) -> None:
    command = tmp_path / "feedsvc"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path if is_on_path else tmp_path / "empty"))
    monkeypatch.setattr(sys, "argv", [str(Path(started_as).absolute())])
    assert program() == shown


def test_banner_without_colours_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rich keeps bold text at NO_COLOR. FORCE_COLOR stands for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    rows = [("data", "/a/long/path" * 20), ("", "more\x1b[2J")]
    print_banner("is ready", rows)
    assert "\x1b[1m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    print_banner("is ready", rows)
    assert capsys.readouterr().err == (
        f"feedsvc {VERSION} is ready\n  data         {'/a/long/path' * 20}\n{' ' * 15}more [2J\n"
    )
