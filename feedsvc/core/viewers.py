"""Viewers: what a person may see of what a read has found.

Every read on behalf of a viewer passes its answer through here, so that rules about viewers have
one place. There is no such rule yet: everybody sees the same.
"""

from collections.abc import Sequence
from typing import TypeVar

Stored = Sequence[tuple[int, bytes]]
"""Activities by id, in their frames."""

Named = TypeVar("Named")
"""An entity, or an edge to or from it."""


class Viewers:
    """The rules about what a viewer may see; an empty viewer is the calling service itself."""

    async def activities(self, viewer: str, stored: Stored) -> Stored:  # noqa: ARG002
        """Return the activities that the viewer may see, in the same order."""
        return stored

    async def entities(self, viewer: str, named: Sequence[Named]) -> Sequence[Named]:  # noqa: ARG002
        """Return the entities or edges that the viewer may see, in the same order."""
        return named
