"""Admission: which calls the server takes on, and when each call begins.

A caller is a connection. Each caller has a share: the work that it may have under way at a time.
Further calls of the caller wait, in order, and the server does not even read them: the flow control
of HTTP/2 keeps them at the client. So a call waits for calls of its own caller only. The server
refuses the calls of a caller that has too many of them waiting.
"""

import asyncio
from collections import deque
from contextvars import ContextVar

from feedsvc.errors import Draining, ServerOverloaded

#: Divisor of ``max_calls``: the quotient is the number of calls that one caller may have.
CALLER_DIVISOR = 2
#: Number of calls for operators that a server with ``max_calls`` still admits.
OPERATOR_CALLS = 16


class Turn:
    """A call's place in its caller's queue, and its part of the caller's share."""

    __slots__ = ("_admission", "_begun", "_caller", "_ended", "_held_bytes", "_weight", "begin")

    def __init__(self, admission: "Admission", caller: "_Caller", weight: int) -> None:
        self._admission = admission
        self._caller = caller
        self._weight = weight
        self._begun = False
        self._ended = False
        self._held_bytes = 0
        self.begin: asyncio.Future[None] | None = None
        """Done when the call may begin; None if the call may begin at once."""

    def hold(self, size: int) -> None:
        """Count the request, of ``size`` bytes, as held in memory until the call ends."""
        self._held_bytes = size
        self._admission.held_bytes += size

    def release(self) -> None:
        """Let the caller's next call begin, because this call only waits for others from now on."""
        if self._begun:
            self._begun = False
            self._caller.end(self._weight)

    def leave(self, _context: object = None) -> None:
        """End the call: its answer has left. A second call of this method changes nothing."""
        if self._ended:
            return
        self._ended = True
        self._admission.held_bytes -= self._held_bytes
        if self._begun:
            self.release()
        elif self.begin is not None and not self.begin.done():
            self.begin.cancel()
        self._admission.end_call(self._caller)

    def start(self) -> None:
        """Note that the call has begun. Only the caller's queue calls this."""
        self._begun = True

    @property
    def weight(self) -> int:
        """The part of its caller's share that the call takes."""
        return self._weight


class _Caller:
    """The calls of one caller."""

    __slots__ = ("calls", "name", "share", "waiting", "work")

    def __init__(self, name: str, share: int) -> None:
        self.name = name
        self.share = share
        self.calls = 0
        """Number of the caller's calls that the server has, waiting ones included."""
        self.work = 0
        """Sum of the weights of the calls under way."""
        self.waiting: deque[Turn] = deque()

    def begin(self, turn: Turn) -> None:
        """Begin a call, or queue it behind the calls that wait already."""
        if not self.waiting and self._fits(turn):
            self.work += turn.weight
            turn.start()
            return
        turn.begin = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)

    def end(self, weight: int) -> None:
        """End work of this ``weight``, and begin the waiting calls that now fit into the share."""
        self.work -= weight
        while self.waiting:
            turn = self.waiting[0]
            if turn.begin is None or turn.begin.done():  # the call was cancelled while it waited
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
        # A call that weighs more than the share begins alone; otherwise it would never begin.
        return not self.work or self.work + turn.weight <= self.share


def draining() -> Draining:
    """Return the error for calls that a stopping server has not begun."""
    return Draining("this server is stopping: call again to reach another server")


CURRENT_TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""The turn of the call that the current task serves."""


def release() -> None:
    """Let the caller's next call begin, because the current call only waits from now on."""
    turn = CURRENT_TURN.get()
    if turn is not None:
        turn.release()


class Admission:
    """The calls that the server has, by caller."""

    def __init__(self, *, max_calls: int, caller_share: int, max_held_bytes: int) -> None:
        """Admit ``max_calls`` at a time, of which one caller may have one half.

        ``caller_share`` is the work of one caller that may be under way at a time, as a sum of
        weights. Calls heavier than 1 are refused while requests take ``max_held_bytes`` or more.
        """
        self._max_calls = max_calls
        self._caller_share = caller_share
        self._max_held_bytes = max_held_bytes
        self._callers: dict[str, _Caller] = {}
        self.calls = 0
        """Number of calls that the server has, waiting ones included."""
        self.held_bytes = 0
        """Bytes of the requests that the server has read and not yet answered."""
        self.is_draining = False
        """True if the server is stopping."""
        self._idle = asyncio.Event()
        self._idle.set()

    def drain(self) -> None:
        """Refuse all calls that have not begun, and all later ones: the server is stopping."""
        self.is_draining = True
        for caller in self._callers.values():
            caller.refuse()

    async def idle(self) -> None:
        """Wait until the server has no call."""
        await self._idle.wait()

    def enter(self, caller_name: str, weight: int = 1, *, for_operators: bool = False) -> Turn:
        """Admit a call and return its turn. Raise ServerOverloaded or Draining if refused.

        A call ``for_operators`` is admitted while the server is stopping or has ``max_calls`` too:
        the operators ask just then. ``OPERATOR_CALLS`` such calls have room beside the others.
        """
        if self.is_draining and not for_operators:
            raise draining()
        caller = self._callers.get(caller_name)
        if caller is None:
            caller = self._callers[caller_name] = _Caller(caller_name, self._caller_share)
        max_calls = self._max_calls + (OPERATOR_CALLS if for_operators else 0)
        if self.calls >= max_calls or caller.calls * CALLER_DIVISOR >= max_calls:
            self._forget_if_idle(caller)
            raise ServerOverloaded("the server has too many calls under way: call again later")
        if weight > 1 and self.held_bytes >= self._max_held_bytes:
            self._forget_if_idle(caller)
            raise ServerOverloaded(
                "the requests that the server holds take too much memory: call again later"
            )
        self.calls += 1
        self._idle.clear()
        caller.calls += 1
        turn = Turn(self, caller, weight)
        caller.begin(turn)
        return turn

    def end_call(self, caller: _Caller) -> None:
        """Note that a call has ended."""
        self.calls -= 1
        if not self.calls:
            self._idle.set()
        caller.calls -= 1
        self._forget_if_idle(caller)

    def _forget_if_idle(self, caller: _Caller) -> None:
        if not caller.calls:
            self._callers.pop(caller.name, None)
