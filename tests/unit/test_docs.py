"""The documents name only files that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("docs/design.md", "docs/glossary.md", "docs/operating.md"),
)
#: The folders and files of the repository's root that a path in a document begins with.
TOP = (
    *(".ci", "Makefile", "benchmarks", "clients", "deploy", "docs"),
    *("examples", "feedsvc", "protos", "tests", "tools"),
)
#: Characters of a line of a document.
LINE = 120
SCRIPTS = ROOT / "feedsvc/core/lua"
#: The text of a code span, and the address of a link to another file.
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")


def named_paths(text: str) -> Iterator[str]:
    """Yield the paths in code spans that begin at the root of the repository."""
    for span in _SPAN.findall(text):
        for word in span.split():
            path = word.split("::")[0].rstrip(",:")
            if _PATH.fullmatch(path) and path.split("/")[0] in TOP:
                yield path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    missing = sorted({path for path in named_paths(text) if not (ROOT / path).exists()})
    assert not missing, f"{document} names paths that do not exist: {', '.join(missing)}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_links_to_exists(document: str) -> None:
    path = ROOT / document
    links = _LINK.findall(path.read_text())
    missing = sorted({link for link in links if not (path.parent / link).exists()})
    assert not missing, f"{document} links to files that do not exist: {', '.join(missing)}"


def test_every_script_that_the_design_names_exists() -> None:
    named = set(re.findall(r"\b\w+\.lua\b", (ROOT / "docs/design.md").read_text()))
    scripts = {path.name for path in SCRIPTS.rglob("*.lua")}
    missing = sorted(named - scripts)
    assert not missing, f"docs/design.md names scripts that do not exist: {', '.join(missing)}"


def test_every_row_of_the_map_names_one_path() -> None:
    """The map of README.md answers each question with one file."""
    text = (ROOT / "README.md").read_text()
    _, where = text.split("Where is …?")
    rows = [line for line in where.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 20
    for row in rows:
        assert len(list(named_paths(row))) == 1, (
            f"this row of README.md does not name one path: {row}"
        )


def test_glossary_is_sorted_and_short() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    _, *rows = rows
    words = [word.lower() for word, _ in rows]
    assert words == sorted(set(words))
    too_long = [word for word, meaning in rows if len(meaning) > 2 * LINE]
    assert not too_long, f"docs/glossary.md explains these words in more than two lines: {too_long}"
