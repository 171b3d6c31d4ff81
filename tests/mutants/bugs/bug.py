"""What a known bug is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """A change of the sources, and the tests that must notice it."""

    name: str
    what: str
    changes: tuple[tuple[str, str, str], ...]
    """File below ``feedsvc``, the right text, which stands there once, and the wrong one."""
    tests: tuple[str, ...]
