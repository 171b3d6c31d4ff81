"""``feedsvc completion``, and the outlines of commands that completion and help read."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from feedsvc.cli import SECTIONS, cli, load, outline

from .conftest import Feedsvc

ROOT = Path(__file__).parents[2]


async def complete(feedsvc: Feedsvc, *words: str) -> list[str]:
    """Return the completions of the last word, as the script of bash gets them."""
    ran = await feedsvc(
        environment={
            "_FEEDSVC_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("feedsvc", *words)),
            "COMP_CWORD": str(len(words)),
        }
    )
    assert (ran.code, ran.err) == (0, "")
    return [line.partition(",")[2] for line in ran.out.splitlines() if line]


async def test_commands_options_and_choices_are_completed(feedsvc: Feedsvc) -> None:
    assert await complete(feedsvc, "fe") == ["feed"]
    assert await complete(feedsvc, "d") == ["demo", "dead-letters", "delivery"]
    assert await complete(feedsvc, "publish", "--to") == ["--to", "--to-only"]
    assert await complete(feedsvc, "completion", "") == ["bash", "zsh", "fish"]
    assert await complete(feedsvc, "import", "--preset", "") == ["canonical", "gharchive", "higgs"]
    assert await complete(feedsvc, "feed", "bo") == []


@pytest.mark.parametrize("words", ["feedsvc publish --", "feedsvc bench --", "feedsvc serve --"])
def test_completion_imports_no_slow_module(words: str) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "feedsvc"],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ
        | {"_FEEDSVC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"},
    )
    assert "plain,--" in process.stdout
    imported = {
        line.rpartition("|")[2].strip().split(".")[0] for line in process.stderr.splitlines()
    }
    assert "click" in imported
    assert not imported & {"grpc", "google", "activityfeed", "rich", "redis", "asyncio", "uvloop"}


def test_the_outlines_are_those_of_the_commands() -> None:
    loader = SourceFileLoader("command_outline", str(ROOT / "tools/command-outline"))
    spec = importlib.util.spec_from_loader("command_outline", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    committed = (ROOT / "feedsvc/cli/outline.json").read_text()
    assert json.loads(module.text()) == json.loads(committed), (
        "the options of a command have changed: run .venv/bin/python tools/command-outline"
    )


def test_an_outline_completes_what_its_command_completes() -> None:
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        full, outlined = load(name), outline.command(name)
        assert outlined is not None
        assert outline.of(outlined)["parameters"] == outline.of(full)["parameters"], name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_script_is_that_of_the_shell(feedsvc: Feedsvc, shell: str) -> None:
    ran = await feedsvc("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert f"_FEEDSVC_COMPLETE={shell}_complete" in ran.out
    if (path := shutil.which(shell)) is not None:
        checked = subprocess.run(  # noqa: ASYNC221
            [path, "-n"], input=ran.out, capture_output=True, check=False, text=True
        )
        assert (checked.returncode, checked.stderr) == (0, "")


async def test_the_help_lists_commands_in_three_parts(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("--help")
    parts = [line.rstrip(":") for line in ran.out.splitlines() if line.endswith(":")]
    assert parts == ["Options", "Start", "Use", "Operate"]
    listed = [
        line.split()[0] for line in ran.out.split("Start:")[1].splitlines() if line[:2] == "  "
    ]
    assert listed == cli.list_commands(None)  # type: ignore[arg-type]
    assert set(listed) <= {name for commands in SECTIONS.values() for name in commands}
