"""SubscribeFeeds: many users on one stream."""

import asyncio
import time
from collections.abc import AsyncIterable
from types import TracebackType
from typing import Any, Self

from activityfeed.v1 import subscription_service_pb2 as pb

from feedsvc import validate
from feedsvc.core.engine import Engine
from feedsvc.core.live import LogLost
from feedsvc.core.streams import Entry, Found, Reader, Stream, StreamOver
from feedsvc.errors import InvalidRequest, StoreUnavailable, TooManyUsers
from feedsvc.services.sender import Sender
from feedsvc.services.subjects import FeedSubject
from feedsvc.status import status_of
from feedsvc.tokens import Tokens

#: Users that are added at a time, and messages about that which wait to be sent.
ADDED_AT_ONCE = 32
#: Seconds after which a store that did not answer is tried again.
TRY_AGAIN_SECONDS = 0.5
#: Seconds without a request after which a stream ends that has told its client where it is, and
#: seconds after which it ends all the same. A client of grpc.aio that writes when the status comes
#: is told INTERNAL instead of it.
LINGER_SECONDS, MOST_LINGER_SECONDS = 0.1, 1.0

_Key = tuple[str, str]


class _User:
    """A user of the stream."""

    def __init__(self, subject: FeedSubject) -> None:
        self.subject = subject
        self.key = subject.user, subject.viewer
        self.reader: Reader | None = None
        """None: not there yet."""
        self.answered = False
        """Whether the request that added it was. One with a token is by what its log says."""


class Gateway:
    """One stream of SubscribeFeeds."""

    def __init__(
        self, engine: Engine, tokens: Tokens, stream: Stream, send: Sender, max_users: int
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._stream = stream
        self._send = send
        self._max_users = max_users
        self._users: dict[_Key, _User] = {}
        self._messages = asyncio.Queue[bytes](ADDED_AT_ONCE)
        self._adding = asyncio.Semaphore(ADDED_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        self._failed: Exception | None = None
        self._ending = False
        self._requested = 0
        """Requests that have come."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._taking is not None:
            self._tasks.add(self._taking)
        await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def run(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        """Does what the client asks for, and sends what the logs say, until the stream is over."""
        self._taking = asyncio.create_task(self._take(requests))
        while True:
            try:
                found = await self._stream.next()
            except StreamOver:
                await self._end()
                raise
            if self._failed is not None:
                raise self._failed
            await self._say_all()
            for reader, told in found:
                await self._tell(reader, told)
            if self._send.quiet:
                await self._send(b"")

    async def _say_all(self) -> None:
        while not self._messages.empty():
            await self._send(self._messages.get_nowait())

    async def _end(self) -> None:
        """Does nothing more. The last message of each user says where it is."""
        self._ending = True
        await self._stop()
        await self._say_all()
        for user in self._users.values():
            if user.answered:
                await self._send(user.subject.message([]))
        await self._linger()

    async def _linger(self) -> None:
        """Waits until the client reads what was sent, and writes no more."""
        until, seen = time.monotonic() + MOST_LINGER_SECONDS, -1
        while seen != self._requested and time.monotonic() < until:
            seen = self._requested
            await asyncio.sleep(LINGER_SECONDS)

    async def _tell(self, reader: Reader, found: Found) -> None:
        user: _User = reader.tag
        if reader.closed:
            return
        match found:
            case LogLost():
                await self._reset(user)
            case StoreUnavailable():
                self._try_again(user, reader)
            case Exception():  # a defect, of which the others know nothing
                await self._lose(user, found)
            case _:
                await self._tell_events(user, reader, found)

    async def _tell_events(self, user: _User, reader: Reader, entries: list[Entry]) -> None:
        subject = user.subject
        try:
            events = await subject.events(entries)
        except StoreUnavailable:
            self._try_again(user, reader)
            return
        except Exception as error:  # noqa: BLE001 (the others are not to know)
            await self._lose(user, error)
            return
        if reader.closed:  # it was removed, or begun anew, which its own messages say
            return
        # Its token is that of what was sent, while the reader may be ahead of that.
        for message in subject.messages([(0, entries, events)]):
            user.answered = True
            await self._send(message)
        if not user.answered:
            user.answered = True
            await self._send(subject.message([]))

    def _try_again(self, user: _User, reader: Reader) -> None:
        """Reads a user's log again in a while, from behind what was sent.

        What was read behind that meanwhile is dropped with the old reader, and found again.
        """
        self._stream.leave(reader)

        def again() -> None:
            if user.reader is reader and self._has(user) and not self._stream.closed:
                self._follow(user)

        asyncio.get_running_loop().call_later(TRY_AGAIN_SECONDS, again)

    async def _reset(self, user: _User) -> None:
        """A user's log was lost: it goes on with a new one."""
        try:
            places = await user.subject.open()
        except Exception as error:  # noqa: BLE001 (the others are not to know)
            await self._lose(user, error)
            return
        if not self._has(user):  # it was removed, or begun anew
            return
        user.subject.places = places
        user.answered = True
        self._follow(user)
        await self._send(user.subject.message([user.subject.reset()]))

    async def _lose(self, user: _User, error: Exception) -> None:
        """A user cannot stay."""
        if self._has(user):
            self._drop(user.key)
            await self._send(_failure(user.key, error))

    def _follow(self, user: _User) -> None:
        if user.reader is not None:
            self._stream.leave(user.reader)
        (log,), (place,) = user.subject.logs(), user.subject.places
        user.reader = self._stream.follow(log, place, user)

    # What the client asks for.

    async def _take(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        try:
            async for request in requests:
                self._requested += 1
                if not self._ending:
                    await self._do(request)
        except Exception as error:  # noqa: BLE001 (it is raised where the stream is run)
            self._failed = error
            self._stream.wake()

    async def _do(self, request: pb.SubscribeFeedsRequest) -> None:
        add = request.add
        removing = request.WhichOneof("action") == "remove"
        key = (request.remove.user, request.remove.viewer) if removing else (add.user, add.viewer)
        try:
            validate.check(request)
        except InvalidRequest as error:
            self._drop(key)
            await self._say(_failure(key, error))
            return
        self._drop(key)
        if removing:
            gone = pb.SubscribeFeedsResponse(user=key[0], viewer=key[1], removed=True)
            await self._say(gone.SerializeToString())
            return
        if len(self._users) >= self._max_users:
            full = TooManyUsers(f"the stream has {self._max_users} users already", self._max_users)
            await self._say(_failure(key, full))
            return
        subject = FeedSubject(self._engine, self._tokens, *key, pb.SubscribeFeedsResponse)
        user = self._users[key] = _User(subject)
        await self._adding.acquire()
        if not self._ending:
            self._begin(self._add(user, add))

    async def _add(self, user: _User, request: pb.SubscribeFeedRequest) -> None:
        """Begins with a user, unless it is removed or begun anew meanwhile."""
        subject = user.subject
        try:
            try:
                if request.initial_page_size:
                    page = await subject.first_page(request.initial_page_size)
                    first = subject.message([subject.created()], page=page)
                elif request.resume_token:
                    # Not answered with that token, to which the log may not reach back any more.
                    subject.places = subject.read_token(request.resume_token)
                    if self._has(user):
                        self._follow(user)
                    return
                else:
                    first = subject.message(await subject.begin(""))
            except Exception as error:  # noqa: BLE001 (the others are not to know)
                if self._has(user):
                    self._drop(user.key)
                    await self._say(_failure(user.key, error))
                return
            if not self._has(user):
                return
            await self._say(first)
            if self._has(user):
                user.answered = True
                self._follow(user)
        finally:
            self._adding.release()

    def _has(self, user: _User) -> bool:
        return self._users.get(user.key) is user

    def _drop(self, key: _Key) -> None:
        user = self._users.pop(key, None)
        if user is not None and user.reader is not None:
            self._stream.leave(user.reader)

    async def _say(self, message: bytes) -> None:
        await self._messages.put(message)
        self._stream.wake()

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _failure(key: _Key, error: Exception) -> bytes:
    """What a request about a user is answered with that failed, or what ends a user.

    Names that are longer than any user's are not repeated: an answer has a bound.
    """
    user, viewer = (name if len(name.encode()) <= validate.ENTITY_BYTES else "" for name in key)
    return pb.SubscribeFeedsResponse(
        user=user, viewer=viewer, error=status_of(error)
    ).SerializeToString()
