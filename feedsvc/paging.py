"""Pages: clamp the size that a caller asks for, and cut a list to a page.

A read asks for an entry more than the page holds. If that entry comes, the list goes on behind the
page.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from feedsvc.contract_limits import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS, PAGE_BODY_BYTES

Entry = TypeVar("Entry")


class CutPage(NamedTuple, Generic[Entry]):
    """The entries of one page."""

    entries: Sequence[Entry]
    has_more: bool
    """True if the list goes on behind this page; the page then has at least one entry."""


def clamp_page_size(
    requested: int, default: int = DEFAULT_PAGE_ITEMS, limit: int = MAX_PAGE_ITEMS
) -> int:
    """Return the number of entries of a page; 0 requests the default."""
    return min(requested or default, limit)


async def read_page(
    read: Callable[[int], Awaitable[Sequence[Entry]]],
    size: int,
    bytes_of: Callable[[Entry], int] | None = None,
) -> CutPage[Entry]:
    """Return the next page of a list.

    ``read`` returns the next entries of the list, at most as many as its argument says.
    ``bytes_of`` returns the bytes of an entry; with it the page is cut as ``cut_page`` says.
    """
    entries = await read(size + 1)
    return cut_page(entries, size, None if bytes_of is None else map(bytes_of, entries))


def cut_page(
    entries: Sequence[Entry], size: int, entry_bytes: Iterable[int] | None = None
) -> CutPage[Entry]:
    """Return the first ``size`` of the entries, and whether entries remain.

    ``entry_bytes`` has the bytes of each entry. With ``entry_bytes`` the page also ends before the
    entry that would bring the page above PAGE_BODY_BYTES.
    """
    count = size if entry_bytes is None else min(size, count_fitting(entry_bytes))
    return CutPage(entries[:count], len(entries) > count)


def count_fitting(entry_bytes: Iterable[int], limit: int = PAGE_BODY_BYTES) -> int:
    """Return the number of first entries that fit into ``limit`` bytes together; at least 1."""
    index = total = 0
    for index, size in enumerate(entry_bytes):
        total += size
        if total > limit:
            return max(1, index)
    return index + 1
