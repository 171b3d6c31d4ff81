"""Scripts get what they use of the libraries, and nothing else."""

import re

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


def test_only_what_is_used_is_kept() -> None:
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


def test_every_name_stands_for_something() -> None:
    """A constant that is not known would be an unknown global variable of the script."""
    for script in scripts.load(Limits()).values():
        code = re.sub(r"--.*|'[^']*'", "", script.source)
        names = set(re.findall(r"\b[A-Z_]{2,}\b", code))
        names -= set(re.findall(r"^local ([A-Z_]+) =", code, re.MULTILINE))
        assert names <= {"KEYS", "ARGV", "TAG", "INCARNATION"}, script.name
