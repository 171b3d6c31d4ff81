"""The description of a known bug."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """A change of the sources that the tests must notice."""

    name: str
    mistake: str
    """The mistake that the service makes with the bug: a sentence in the present tense."""
    changes: tuple[tuple[str, str, str], ...]
    """Files below ``feedsvc``, with the right text, which stands there once, and the wrong text."""
    tests: tuple[str, ...]
    """The tests that must notice the bug: files, or files with the names of tests."""
