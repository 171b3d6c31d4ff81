"""Viewers: the entities on whose behalf a caller reads, and the items that each viewer may see.

Every read on behalf of a viewer passes its answer through here, so that the rules about viewers
have one place. No such rule exists yet: every viewer sees everything.
"""

from collections.abc import Sequence
from typing import TypeVar

Stored = Sequence[tuple[int, bytes]]
"""Activities: their ids and their frames."""

Named = TypeVar("Named")
"""An entity, or an edge to or from an entity."""


class Viewers:
    """The rules about what a viewer may see. An empty viewer is the calling service itself."""

    async def activities(self, viewer: str, stored: Stored) -> Stored:  # noqa: ARG002
        """Return the activities that the viewer may see, in the same order."""
        return stored

    async def entities(self, viewer: str, named: Sequence[Named]) -> Sequence[Named]:  # noqa: ARG002
        """Return the entities or edges that the viewer may see, in the same order."""
        return named
