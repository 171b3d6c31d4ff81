"""The blocks of commands in the documents, and the marks that say how to run them.

A mark is a comment in the line before a block. Readers of the rendered page do not see it:

``<!-- commands: in the background -->``
    The commands run until the end of the document: a server.
``<!-- commands: with a server -->``
    A server listens on the usual port while the commands run.
``<!-- commands: run by tests/FILE -->``
    That test runs the commands.
``<!-- commands: not run, REASON -->``
    The commands need what a machine with tests lacks.

``; arguments: WORDS`` at the end of a mark gives a Python program its arguments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The documents with commands for users, operators and contributors, in the order of a first hour.
DOCUMENTS = (
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")),
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(
        str(path.relative_to(ROOT))
        for folder in ("clients", "deploy", "examples")
        for path in ROOT.glob(f"{folder}/**/*.md")
        if "node_modules" not in path.parts
    ),
)
#: Languages of blocks that are commands of a shell. Blocks without a language are, too.
SHELL = ("", "sh", "bash")

_MARK = re.compile(r"<!-- commands: (?P<way>[^;]+?)(?:; arguments: (?P<arguments>.+?))? -->")


class UnknownMark(Exception):
    """A mark in a document is none of the known ones."""


@dataclass(frozen=True)
class Block:
    """A block of commands, or a Python program."""

    document: str
    line: int
    """Line of the first command."""
    language: str
    text: str
    in_background: bool = False
    with_server: bool = False
    run_by: str = ""
    """Path of the test that runs the commands."""
    not_run: str = ""
    """Why nothing runs the commands."""
    arguments: str = ""

    @property
    def location(self) -> str:
        """Document and line, as editors take them."""
        return f"{self.document}:{self.line}"


def blocks_of(document: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a document that are commands or Python programs.

    Raise UnknownMark. A block without a mark runs as it is.
    """
    mark: re.Match[str] | None = None
    language: str | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if language is not None:
            if line.strip() == "```":
                block = _block(document, number - len(lines), language, lines, mark)
                if block is not None:
                    yield block
                language, mark = None, None
            else:
                lines.append(line)
        elif line.startswith("```"):
            language, lines = line.removeprefix("```").strip(), []
        elif line.startswith("<!-- commands:"):
            mark = _MARK.fullmatch(line.strip())
            if mark is None:
                raise UnknownMark(f"{document}:{number}: {line}")
        elif line.strip():
            mark = None


def _block(
    document: str, line: int, language: str, lines: list[str], mark: re.Match[str] | None
) -> Block | None:
    if language not in (*SHELL, "python"):
        return None
    block = Block(document, line, language, "\n".join(lines) + "\n")
    if mark is None:
        return block
    fields: dict[str, object] = {"arguments": mark["arguments"] or ""}
    way = mark["way"]
    if way == "in the background":
        fields["in_background"] = True
    elif way == "with a server":
        fields["with_server"] = True
    elif way.startswith("run by "):
        fields["run_by"] = way.removeprefix("run by ")
    elif way.startswith("not run, "):
        fields["not_run"] = way.removeprefix("not run, ")
    else:
        raise UnknownMark(f"{document}:{line - 1}: commands: {way}")
    return Block(document, line, language, block.text, **fields)  # type: ignore[arg-type]
