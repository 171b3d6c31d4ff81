"""SubscribeFeeds: many users on one stream."""

import asyncio
from collections.abc import AsyncIterable
from types import TracebackType
from typing import Any, Self

from activityfeed.v1 import subscription_service_pb2 as pb

from feedsvc import validate
from feedsvc.core.engine import Engine
from feedsvc.core.live import LogLost
from feedsvc.core.streams import Found, Reader, Stream, StreamOver
from feedsvc.errors import FeedError, InvalidRequest, StoreUnavailable, TooManyUsers
from feedsvc.services.sender import Sender
from feedsvc.services.subjects import FeedSubject
from feedsvc.status import status_of
from feedsvc.tokens import Tokens

#: Users that are added at a time, and messages about that which wait to be sent.
ADDED_AT_ONCE = 32
#: Seconds after which a store that did not answer is tried again.
TRY_AGAIN_SECONDS = 0.5

_Key = tuple[str, str]


class _User:
    """A user of the stream."""

    def __init__(self, subject: FeedSubject) -> None:
        self.subject = subject
        self.key = subject.user, subject.viewer
        self.reader: Reader | None = None
        """None: not there yet."""


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
        self._failed: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def run(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        """Does what the client asks for, and sends what the logs say, until the stream is over."""
        self._begin(self._take(requests))
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
        """Takes no more requests. The last message of each user says where it is."""
        await self._stop()
        await self._say_all()
        for user in self._users.values():
            if user.reader is not None:
                await self._send(user.subject.message([]))

    async def _tell(self, reader: Reader, found: Found) -> None:
        user: _User = reader.tag
        if reader.closed:
            return
        match found:
            case LogLost():
                await self._reset(user)
            case StoreUnavailable():
                asyncio.get_running_loop().call_later(TRY_AGAIN_SECONDS, self._stream.wake, reader)
            case Exception():  # a defect, of which the others know nothing
                await self._lose(user, found)
            case []:
                pass
            case _:
                user.subject.places = [reader.place]
                if events := await user.subject.events(found):
                    await self._send(user.subject.message(events))

    async def _reset(self, user: _User) -> None:
        """A user's log was lost: it goes on with a new one."""
        try:
            places = await user.subject.open()
        except StoreUnavailable as error:
            await self._lose(user, error)
            return
        if not self._has(user):  # it was removed, or begun anew
            return
        user.subject.places = places
        self._follow(user)
        await self._send(user.subject.message([user.subject.reset()]))

    async def _lose(self, user: _User, error: Exception) -> None:
        """A user cannot stay."""
        if self._has(user):
            self._drop(user.key)
            await self._send(_failure(user.subject, error))

    def _follow(self, user: _User) -> None:
        if user.reader is not None:
            self._stream.leave(user.reader)
        (log,), (place,) = user.subject.logs(), user.subject.places
        user.reader = self._stream.follow(log, place, user)

    # What the client asks for.

    async def _take(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        try:
            async for request in requests:
                await self._do(request)
        except Exception as error:  # noqa: BLE001 (it is raised where the stream is run)
            self._failed = error
            self._stream.wake()

    async def _do(self, request: pb.SubscribeFeedsRequest) -> None:
        add = request.add
        if request.WhichOneof("action") == "remove":
            validate.check(request)
            key = (request.remove.user, request.remove.viewer)
            self._drop(key)
            gone = pb.SubscribeFeedsResponse(user=key[0], viewer=key[1], removed=True)
            await self._say(gone.SerializeToString())
            return
        key = (add.user, add.viewer)
        subject = FeedSubject(self._engine, self._tokens, *key, pb.SubscribeFeedsResponse)
        self._drop(key)
        try:
            validate.check(request)
        except InvalidRequest as error:
            if not add.user:
                raise
            await self._say(_failure(subject, error))
            return
        if len(self._users) >= self._max_users:
            full = TooManyUsers(f"the stream has {self._max_users} users already", self._max_users)
            await self._say(_failure(subject, full))
            return
        user = self._users[key] = _User(subject)
        await self._adding.acquire()
        self._begin(self._add(user, add))

    async def _add(self, user: _User, request: pb.SubscribeFeedRequest) -> None:
        """Begins with a user, unless it is removed or begun anew meanwhile."""
        subject, failed = user.subject, False
        try:
            try:
                if request.initial_page_size:
                    page = await subject.first_page(request.initial_page_size)
                    first = subject.message([subject.created()], page=page)
                else:
                    first = subject.message(await subject.begin(request.resume_token))
            except FeedError as error:
                first, failed = _failure(subject, error), True
            if not self._has(user):
                return
            await self._say(first)
            if not self._has(user):
                return
            if failed:
                self._drop(user.key)
            else:
                self._follow(user)
        except Exception as error:  # noqa: BLE001 (it is raised where the stream is run)
            self._failed = error
            self._stream.wake()
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


def _failure(subject: FeedSubject, error: Exception) -> bytes:
    return pb.SubscribeFeedsResponse(
        user=subject.user, viewer=subject.viewer, error=status_of(error)
    ).SerializeToString()
