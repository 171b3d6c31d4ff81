"""Admission: how many calls the server takes on, and whose turn it is.

Each caller, which is a connection, has a share of work that may be under way at a time. Its
further calls wait, in order, and are not even read: HTTP/2's flow control keeps them at the client.
So calls wait for calls of the same caller only. A caller that lets too many wait is refused at
once.
"""

import asyncio
from collections import deque
from contextvars import ContextVar

from feedsvc.errors import Draining, ServerOverloaded

#: Of all calls that the server has, the part that may be of one caller.
SHARE = 2


class Turn:
    """A call's place among those of its caller."""

    __slots__ = ("_admission", "_begun", "_caller", "_held", "_left", "_weight", "begin")

    def __init__(self, admission: "Admission", caller: "_Caller", weight: int) -> None:
        self._admission = admission
        self._caller = caller
        self._weight = weight
        self._begun = False
        self._left = False
        self._held = 0
        self.begin: asyncio.Future[None] | None = None
        """Done when it is the call's turn; None: it is now."""

    def hold(self, size: int) -> None:
        """Note the size of the request, in bytes, which the call holds in memory from here on."""
        self._held = size
        self._admission.held += size

    def rest(self) -> None:
        """Let the caller's next call begin: from here on this one only waits for others."""
        if self._begun:
            self._begun = False
            self._caller.end(self._weight)

    def leave(self, _context: object = None) -> None:
        """End the call: its answer has left. Repeating it changes nothing."""
        if self._left:
            return
        self._left = True
        self._admission.held -= self._held
        if self._begun:
            self.rest()
        elif self.begin is not None and not self.begin.done():
            self.begin.cancel()
        self._admission.left(self._caller)

    def start(self) -> None:
        """Begin: called by the caller's queue."""
        self._begun = True

    @property
    def weight(self) -> int:
        """How much of its caller's share the call takes."""
        return self._weight


class _Caller:
    """The calls of one caller."""

    __slots__ = ("calls", "name", "share", "waiting", "work")

    def __init__(self, name: str, share: int) -> None:
        self.name = name
        self.share = share
        self.calls = 0
        """Calls that it has here, waiting ones included."""
        self.work = 0
        """Work under way."""
        self.waiting: deque[Turn] = deque()

    def begin(self, turn: Turn) -> None:
        """Begin a call, or have it wait behind the others."""
        if not self.waiting and self._fits(turn):
            self.work += turn.weight
            turn.start()
            return
        turn.begin = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)

    def end(self, weight: int) -> None:
        """End so much work, and begin what has waited for it."""
        self.work -= weight
        while self.waiting:
            turn = self.waiting[0]
            if turn.begin is None or turn.begin.done():  # it has gone away
                self.waiting.popleft()
                continue
            if not self._fits(turn):
                return
            self.waiting.popleft()
            self.work += turn.weight
            turn.start()
            turn.begin.set_result(None)

    def refuse(self) -> None:
        """Refuse the calls that wait."""
        for turn in self.waiting:
            if turn.begin is not None and not turn.begin.done():
                turn.begin.set_exception(draining())
        self.waiting.clear()

    def _fits(self, turn: Turn) -> bool:
        # Alone it may weigh more than the share: it would never begin otherwise.
        return not self.work or self.work + turn.weight <= self.share


def draining() -> Draining:
    """The error of what a stopping server has not begun."""
    return Draining("this server is stopping: another one, or its successor, will answer")


CURRENT: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""The turn of the call that the current task serves."""


def rest() -> None:
    """Say that the current call only waits for others from here on."""
    turn = CURRENT.get()
    if turn is not None:
        turn.rest()


class Admission:
    """The calls that the server has, by caller."""

    def __init__(self, *, calls: int, share: int, held: int) -> None:
        """Admit so many ``calls``, and so much work of each caller at a time, its ``share``.

        A caller may have a part of the calls. Heavy calls are refused while requests take more
        memory than ``held`` bytes.
        """
        self._most_calls = calls
        self._share = share
        self._most_held = held
        self._callers: dict[str, _Caller] = {}
        self.calls = 0
        """Calls that are here, waiting ones included."""
        self.held = 0
        """Bytes of requests that have been read."""
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def drain(self) -> None:
        """Refuse all calls that have not begun, and those to come: the server is stopping."""
        self._draining = True
        for caller in self._callers.values():
            caller.refuse()

    async def idle(self) -> None:
        """Wait until no call is here."""
        await self._idle.wait()

    def enter(self, caller: str, weight: int = 1) -> Turn:
        """Admit a call. Raises ServerOverloaded, Draining."""
        if self._draining:
            raise draining()
        there = self._callers.get(caller)
        if there is None:
            there = self._callers[caller] = _Caller(caller, self._share)
        if self.calls >= self._most_calls or there.calls * SHARE >= self._most_calls:
            self._forget(there)
            raise ServerOverloaded("the server has too many calls to do: try again in a while")
        if weight > 1 and self.held >= self._most_held:
            self._forget(there)
            raise ServerOverloaded("the server has too much to read: try again in a while")
        self.calls += 1
        self._idle.clear()
        there.calls += 1
        turn = Turn(self, there, weight)
        there.begin(turn)
        return turn

    def left(self, caller: _Caller) -> None:
        """Note that a call has ended."""
        self.calls -= 1
        if not self.calls:
            self._idle.set()
        caller.calls -= 1
        self._forget(caller)

    def _forget(self, caller: _Caller) -> None:
        if not caller.calls:
            self._callers.pop(caller.name, None)
