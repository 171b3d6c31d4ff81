"""The known bugs: published feed systems have each, or docs/design.md argues against it."""

from tests.mutants.bugs import (
    delivering,
    feeds,
    following,
    importing,
    live,
    publishing,
    serving,
    stores,
)
from tests.mutants.bugs.bug import Bug

__all__ = ["BUGS", "Bug"]

BUGS = (
    *publishing.BUGS,
    *following.BUGS,
    *delivering.BUGS,
    *feeds.BUGS,
    *live.BUGS,
    *stores.BUGS,
    *serving.BUGS,
    *importing.BUGS,
)
