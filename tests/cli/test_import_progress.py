"""The progress of an import on stderr."""

import asyncio
import os
import pty
import sys
from pathlib import Path

import pytest

from feedsvc.cli.importing import progress as progress_module
from feedsvc.cli.importing.progress import ImportProgress
from feedsvc.cli.importing.rejects import Reject
from tests.serving import Service

from .conftest import Feedsvc


class Clock:
    """A clock that the test sets."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_line_says_share_rows_rate_and_remaining_time() -> None:
    clock = Clock()
    progress = ImportProgress(quiet=False, clock=clock)
    progress.begin("follows", "rows", 40_000)
    assert progress.line() == "follows: 0%, 0 rows"
    clock.seconds += 20
    progress.advance(10_000, 123_456)
    assert progress.line() == "follows: 25%, 123,456 rows, 6,173 rows/s, 1 min 0 s remaining"
    clock.seconds += 7_200
    progress.begin("warming", "feeds", 3)
    clock.seconds += 3_600
    progress.advance(1, 1)
    assert progress.line() == "warming: 33%, 1 feeds, 0 feeds/s, 2 h 0 min remaining"


@pytest.mark.parametrize("quiet", [False, True])
async def test_lines_are_written_only_if_the_import_is_not_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0)
    progress = ImportProgress(quiet=quiet, clock=Clock())
    progress.begin("follows", "rows", 10)
    writing = asyncio.create_task(progress.write_lines())
    for _ in range(10):
        await asyncio.sleep(0)
    writing.cancel()
    err = capsys.readouterr().err
    assert err.startswith("follows: 0%, 0 rows\n") or quiet
    assert not err or not quiet


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ImportProgress(quiet=True).complain(Reject("a\x1bb", 3, "refused: \x1b[31m"))
    assert capsys.readouterr().err == "a b:3: refused:  [31m\n"


async def test_the_bar_fits_a_terminal_of_60_columns(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"follow": {"follower": "bob", "followee": "alice"}}\n' * 3_000)
    main, terminal = pty.openpty()
    server = f"127.0.0.1:{service.server.port}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "feedsvc", "import", path, "--server", server),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=terminal,
        env=os.environ | {"COLUMNS": "60", "LINES": "20", "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(terminal)
    written = bytearray()

    def read() -> None:
        while True:
            try:
                written.extend(os.read(main, 4_096))
            except OSError:  # the terminal is closed
                return

    await asyncio.to_thread(read)
    os.close(main)
    assert await process.wait() == 0
    text = written.decode()
    bars = [line for line in text.replace("\r", "\n").splitlines() if "follows" in line]
    assert "100%" in bars[-1]
    assert "3,000" in bars[-1]
    assert "/s" in bars[-1]
    assert "\x1b[3" not in text  # no colours


async def test_a_closed_stderr_does_not_end_the_import(feedsvc: Feedsvc, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"follow": {"follower": "b", "followee": "a"}}\n' + b"rubbish\n" * 30)
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "feedsvc", "import", path, "--json", "--server", feedsvc.server),
        stdout=asyncio.subprocess.PIPE,
        stderr=writing,
    )
    os.close(writing)
    out, _ = await process.communicate()
    assert b'"follows": 1' in out
    assert b'"malformed": 30' in out
    assert process.returncode == 1
