"""Modes: how the followers of an entity get its activities.

A mode is a letter of ``keys.MODES`` and the epoch of the flip that set the letter; the mode of an
entity that was never flipped is empty. ``lua/lib/modes.lua`` has the same predicates.
"""

from feedsvc.core.keys import MODES

_PUSH, _PULL = MODES["MODE_PUSH"], MODES["MODE_PULL"]
_TO_PULL = MODES["MODE_TO_PULL"]


def is_pushed(mode: str) -> bool:
    """Return whether activities are pushed and no flip is under way."""
    return mode[:1] in ("", _PUSH)


def is_pulled(mode: str) -> bool:
    """Return whether the followers read the entity's outbox."""
    return mode[:1] == _PULL


def is_pull_wanted(mode: str) -> bool:
    """Return whether the edges are PULL, or a flip is turning them to PULL."""
    return mode.startswith((_PULL, _TO_PULL))
