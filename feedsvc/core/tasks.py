"""Tasks that more than one, or maybe nobody any more, waits for."""

import asyncio
from typing import Any


def retrieved(task: asyncio.Task[Any]) -> None:
    """Marks the error of an ended task as retrieved; who waits for it is told all the same."""
    if not task.cancelled():
        task.exception()
