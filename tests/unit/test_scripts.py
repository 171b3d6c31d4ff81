"""Scripts get the parts of the libraries that they use, and nothing else."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from feedsvc.config import Limits
from feedsvc.core import scripts

LIBRARY = """
-- Constants.
local LOW, HIGH = 1, 20
local GREETING = 'hello' -- a text
local last

-- Uses last.
local function inner(number)
  last = number
  return number + LOW
end

local function outer(number) return inner(number) * HIGH end
local function unused(number) return outer(number) end
"""
SOURCES = {
    entry.name.removesuffix(".lua"): entry.read_text()
    for entry in (files("feedsvc.core") / "lua").iterdir()
    if entry.name.endswith(".lua")
}


def test_only_the_parts_that_a_script_uses_are_kept() -> None:
    assert "unused" not in scripts.assembled("return outer(1)", LIBRARY, {})
    source = scripts.assembled("return inner(SIZE)", LIBRARY, {"SIZE": "3"})
    assert " ".join(source.split()) == (
        "local last local function inner(number) last = number return number + 1 end"
        " return inner(3)"
    )


def test_texts_and_comments_stay_as_they_are() -> None:
    text = "-- HIGH isn't 'LOW'\nreturn {'HIGH', HIGH, 'LOW', GREETING, 'isn''t'} -- LOW"
    assert scripts.assembled(text, LIBRARY, {}) == (
        "-- HIGH isn't 'LOW'\nreturn {'HIGH', 20, 'LOW', 'hello', 'isn''t'} -- LOW"
    )


def test_includes_come_with_their_own_includes_each_once_and_behind_them() -> None:
    libraries = {
        "base": "local x",
        "left": "-- include: base\nlocal l",
        "right": "-- include: base\nlocal r",
        "top": "-- include: left right\nlocal t",
        "unused": "local u",
    }
    source = "-- include: top base\nreturn t"
    assert scripts.resolved(source, libraries) == ["base", "left", "right", "top"]


def test_source_without_an_include_line_needs_no_library() -> None:
    assert scripts.resolved("-- A script.\n-- include: base\nreturn 1", {"base": ""}) == []


@pytest.mark.parametrize(
    ("source", "libraries"),
    [
        ("-- include: missing", {}),
        ("-- include: base", {"base": "-- include: missing"}),
    ],
)
def test_include_of_a_missing_library_is_an_error(source: str, libraries: dict[str, str]) -> None:
    with pytest.raises(scripts.IncludeError, match="missing"):
        scripts.resolved(source, libraries)


@pytest.mark.parametrize(
    "libraries",
    [
        {"a": "-- include: a"},
        {"a": "-- include: b", "b": "-- include: c", "c": "-- include: a"},
    ],
)
def test_libraries_that_include_each_other_are_an_error(libraries: dict[str, str]) -> None:
    circle = " > ".join([*libraries, "a"])
    with pytest.raises(scripts.IncludeError, match=circle):
        scripts.resolved("-- include: a", libraries)


def test_every_library_can_be_included() -> None:
    for name in scripts.libraries():
        assert scripts.resolved(f"-- include: {name}", scripts.libraries())[-1] == name


def code_of(source: str) -> str:
    """Return a source without comments and texts."""
    return re.sub(r"--.*|'[^']*'", "", source)


def defined_by(source: str) -> set[str]:
    """Return the names that a library defines."""
    definitions = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", source, re.MULTILINE)
    return {name for names in definitions for name in names.split(", ")}


def files_of_lua() -> Iterator[tuple[str, str]]:
    yield from SOURCES.items()
    yield from ((f"lib/{name}", source) for name, source in scripts.libraries().items())


def test_every_file_includes_the_libraries_that_it_uses_and_no_others() -> None:
    defined = {name: defined_by(source) for name, source in scripts.libraries().items()}
    for name, source in files_of_lua():
        words = set(re.findall(r"\w+", code_of(source)))
        own = defined_by(source) | set(re.findall(r"\blocal (?:function )?(\w+)", source))
        used = {
            library
            for library, names in defined.items()
            if (words & names) - own and name != f"lib/{library}"
        }
        assert set(scripts.includes(source)) == used, name


def test_every_name_in_capitals_stands_for_something() -> None:
    """A constant that is not known would be an unknown global variable of the script."""
    for script in scripts.load(Limits()).values():
        code = code_of(script.source)
        names = set(re.findall(r"\b[A-Z_]{2,}\b", code))
        for definition in re.findall(r"^local ([A-Z_]+(?:, [A-Z_]+)*)(?: =|$)", code, re.MULTILINE):
            names -= set(definition.split(", "))
        assert names <= {"KEYS", "ARGV"}, script.name


def test_every_script_names_its_arguments_before_it_does_anything() -> None:
    for name, source in SOURCES.items():
        code = re.sub(r"--.*", "", source)
        first_statement = re.search(r"^(?!local (?!function)|\s|for |$)", code, re.MULTILINE)
        assert first_statement is not None, name
        assert not re.search(r"(KEYS|ARGV)\[\d", code[first_statement.start() :]), name


def test_every_script_says_what_it_takes_and_returns_and_why_it_may_be_repeated() -> None:
    for name, source in SOURCES.items():
        for line in ("-- KEYS  ", "-- ARGV  ", "-- Returns ", "-- Repeat: "):
            assert re.search(f"^{line}", source, re.MULTILINE), name
