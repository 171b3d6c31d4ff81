"""Output that cannot be written, text that cannot be encoded or decoded, and defects."""

import asyncio
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import Activity
from google.protobuf.struct_pb2 import Struct

from feedsvc.cli import running
from feedsvc.cli.connection import echo_json
from tests.serving import Service

from .conftest import Feedsvc, Ran, ended

#: The way to an encoding that knows no letter but the English ones: three switches of Python's.
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


async def shell(feedsvc: Feedsvc, redirection: str, *arguments: str) -> Ran:
    """Run a command in bash with a redirection or a pipe behind it. Return the command's status."""
    command = shlex.join([sys.executable, "-m", "feedsvc", *arguments])
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{command} {redirection}; exit ${{PIPESTATUS[0]}}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"FEEDSVC_SERVER": feedsvc.server},
    )
    return await ended(process)


@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_a_publish_whose_answer_cannot_be_written_says_so_and_names_the_id(
    service: Service, feedsvc: Feedsvc, form: list[str]
) -> None:
    ran = await shell(feedsvc, ">/dev/full", "publish", "alice", "post", *form)
    (activity_id,) = await service.outbox("alice")
    assert (ran.code, ran.err) == (
        74,
        (
            f"The activity was published, with the id {activity_id}.\n"
            "Error: cannot write to standard output: No space left on device\n"
        ),
    )


async def test_a_closed_stdout_is_refused_before_any_call(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await shell(feedsvc, ">&-", "publish", "alice", "post")
    assert (ran.code, ran.err) == (
        74,
        (
            "Error: cannot write to standard output: it is closed; "
            "redirect it to a file or to /dev/null\n"
        ),
    )
    assert await service.outbox("alice") == []


async def test_a_pipe_without_a_reader_is_noticed_before_any_call(
    service: Service, feedsvc: Feedsvc
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "feedsvc", "publish", "alice", "post"),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"FEEDSVC_SERVER": feedsvc.server},
    )
    os.close(writing)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (141, b"")
    assert await service.outbox("alice") == []


async def test_a_reader_that_ends_early_is_no_error(feedsvc: Feedsvc) -> None:
    ran = await shell(feedsvc, "| head -1", "--help")
    assert ran.out == "Usage: feedsvc [OPTIONS] COMMAND [ARGS]...\n"
    assert ran.err == ""
    assert ran.code in {0, 141}  # 0 if the help was written before `head` ended


async def test_help_that_cannot_be_written_is_an_error(feedsvc: Feedsvc) -> None:
    ran = await shell(feedsvc, ">/dev/full", "feed", "--help")
    assert (ran.code, ran.err) == (
        74,
        "Error: cannot write to standard output: No space left on device\n",
    )


async def test_errors_that_cannot_be_written_keep_their_status(feedsvc: Feedsvc) -> None:
    ran = await shell(feedsvc, "2>/dev/full", "feed", "bob", "--server", "x")
    assert (ran.code, ran.out, ran.err) == (2, "", "")
    ran = await shell(feedsvc, "2>&-", "feed", "bob", "--server", "x")
    assert (ran.code, ran.out, ran.err) == (2, "", "")


async def test_an_argument_that_is_no_text_is_refused_in_words(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("publish", b"caf\xe9", "open")
    assert (ran.code, ran.err) == (2, "Error: the argument 'caf\\xe9' is not text in UTF-8\n")


async def test_a_file_whose_name_is_no_text_is_imported(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(path, "w") as file:  # noqa: ASYNC230, PTH123 - a path of bytes
        file.write('{"follow": {"follower": "bob", "followee": "alice"}}\n')
    ran = await feedsvc("import", path)
    assert (ran.code, ran.err) == (0, "")


async def test_an_ascii_terminal_gets_question_marks_and_the_server_gets_the_text(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await feedsvc("publish", "é", "post", "--content", "ü", environment=ASCII_LOCALE)
    assert (ran.code, ran.err) == (0, "")
    assert "just now  ? posted ???\n" in ran.out
    (activity_id,) = await service.outbox("é")
    assert (await service.get(activity_id)).content == "ü"


async def test_a_wrong_environment_variable_is_named(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("feed", "bob", environment={"FEEDSVC_SERVER": "localhost"})
    assert ran.code == 2
    assert "Invalid value for '--server' (env var: 'FEEDSVC_SERVER'): add the port, " in ran.err
    ran = await feedsvc("serve", environment={"FEEDSVC_LOG_LEVEL": "loud"})
    assert ran.code == 2
    assert "(env var: 'FEEDSVC_LOG_LEVEL'): 'loud' is not one of 'debug', 'info'" in ran.err


async def test_a_folder_that_is_not_writable_is_one_line(feedsvc: Feedsvc, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = await feedsvc("serve", "--data-dir", tmp_path / "file" / "data")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "give a directory that this user may write to" in ran.err


def test_a_defect_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("no\nsuch thing")

    monkeypatch.setattr(running.standard_streams, "replace", lambda: None)
    monkeypatch.setattr(running.cli, "main", broken)
    assert running.run(["feed"]) == 70
    assert capsys.readouterr().err == (
        "Error: feedsvc has a defect: TypeError: no such thing "
        "(FEEDSVC_DEBUG=1 shows the traceback)\n"
    )
    monkeypatch.setenv("FEEDSVC_DEBUG", "1")
    assert running.run(["feed"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def write(*_: Any, **__: Any) -> None:
        (tmp_path / "no" / "file").write_text("")

    monkeypatch.setattr(running.standard_streams, "replace", lambda: None)
    monkeypatch.setattr(running.cli, "main", write)
    assert running.run(["bench"]) == 1
    assert capsys.readouterr().err == f"Error: {tmp_path}/no/file: No such file or directory\n"


def test_an_answer_without_a_form_in_json_is_refused() -> None:
    extra = Struct()
    extra.fields["score"].number_value = float("nan")
    with pytest.raises(running.click.ClickException) as caught:
        echo_json(Activity(extra=extra))
    assert caught.value.message.startswith("the answer has no form in JSON: ")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('{"a": NaN}', "JSON has no NaN and no Infinity: write null"),
        ('{"a": [-Infinity]}', "JSON has no NaN and no Infinity: write null"),
        ('{"a": 1e999}', "JSON has no NaN and no Infinity: write null"),
        ('{"a": "\\ud800"}', 'not a JSON object such as {"score": 3}: '),
        ('{"\\udc00": 1}', 'not a JSON object such as {"score": 3}: '),
        ('{"a": 1, "a": 2}', 'not a JSON object such as {"score": 3}: '),
        ("[" * 5_000, 'not a JSON object such as {"score": 3}: '),
    ],
)
async def test_extra_data_that_cannot_be_printed_is_refused_before_the_call(
    feedsvc: Feedsvc, service: Service, extra: str, message: str
) -> None:
    ran = await feedsvc("publish", "alice", "post", "--extra", extra)
    assert ran.code == 2
    assert f"Error: Invalid value for '--extra': {message}" in ran.err
    assert await service.outbox("alice") == []
