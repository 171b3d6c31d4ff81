"""The commands that documents print exist: targets of make, commands of feedsvc, their options."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from feedsvc.cli import cli
from tests.first_hour.documents import DOCUMENTS, ROOT, SHELL, UnknownMark, blocks_of

_SPAN = re.compile(r"`([^`\n]+)`")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def printed_commands(document: str) -> Iterator[list[str]]:
    """Yield the words of each printed command, from code spans and blocks of shell commands."""
    text = (ROOT / document).read_text()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = _SPAN.findall(prose)
    for block in blocks_of(document, text):
        if block.language in SHELL:
            lines += block.text.replace("\\\n", " ").splitlines()
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a piece of a program
            continue
        while words and ("=" in words[0] or words[0] in {"sudo", "exec"}):
            words = words[1:]
        if words:
            yield words


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_print_only_targets_that_the_makefile_has(document: str) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    printed = {
        word
        for command, *words in printed_commands(document)
        if command == "make"
        for word in words
        if re.fullmatch(r"[a-z-]+", word)
    }
    assert not printed - targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_print_only_commands_and_options_that_feedsvc_has(document: str) -> None:
    context = click.Context(cli)
    wrong = []
    for program, *words in printed_commands(document):
        if program.rpartition("/")[2] != "feedsvc" or not words:
            continue
        name, *arguments = words
        if name.startswith("-") or name.isupper():  # a placeholder
            continue
        command = cli.get_command(context, name)
        if command is None:
            wrong.append(f"feedsvc {name}")
            continue
        known = {flag for option in command.get_params(context) for flag in _flags(option)}
        flags = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        wrong += [f"feedsvc {name} {flag}" for flag in sorted(flags - known - {"--help"})]
    assert not wrong


def _flags(option: click.Parameter) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def test_commands_of_each_document_have_known_marks() -> None:
    for document in DOCUMENTS:
        for block in blocks_of(document, (ROOT / document).read_text()):
            if block.run_by:
                assert (ROOT / block.run_by).is_file(), f"{block.location} names no test"


def test_unknown_mark_is_refused() -> None:
    with pytest.raises(UnknownMark, match=r"README\.md:2: commands: on sundays"):
        list(blocks_of("README.md", "<!-- commands: on sundays -->\n```\nmake demo\n```\n"))


def test_mark_holds_for_the_next_block_only() -> None:
    text = "<!-- commands: not run, it needs Docker -->\n\n```sh\none\n```\n```\ntwo\n```\n"
    first, second = blocks_of("README.md", text)
    assert (first.not_run, first.text, first.line) == ("it needs Docker", "one\n", 4)
    assert (second.not_run, second.text, second.line) == ("", "two\n", 7)
