"""Wake-ups: a channel of the store says which live logs have grown.

Wake-ups may be lost. So the listener wakes all streams whenever it subscribes to the channel anew,
and checks the channel by an echo: this process must hear the messages that it publishes.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from feedsvc.core import background, keys
from feedsvc.core.store import Store
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds until the listener connects again.
LISTEN_AGAIN_SECONDS = 0.2
#: Seconds without wake-ups, of a store that answers, after which the log says so.
SILENT_SECONDS = 10.0
SILENT = "it delivers nothing"
#: Seconds between echoes, and seconds after which the listener leaves a channel without echoes.
ECHO_SECONDS, DEAF_SECONDS = 1.0, 2.0


class WakeUps:
    """Listens to the store's channel for wake-ups."""

    def __init__(
        self, store: Store, wake: Callable[[bytes], None], wake_all: Callable[[], None]
    ) -> None:
        """``wake`` gets the name of a log that has grown; after a gap ``wake_all`` is called."""
        self._store = store
        self._wake = wake
        self._wake_all = wake_all
        self.echo_channel = f"{keys.ECHO}{secrets.token_hex(8)}"
        """The channel over which this process hears itself."""
        self._heard = asyncio.Event()
        self._subscribed = False
        self._silent_since: float | None = None
        """When the channel was first left because of the channel itself; None: it works."""
        self._cause = SILENT
        """The last error of the channel that does not work."""
        self._is_logged = False

    async def run(self) -> None:
        """Listen, and begin again when listening ends or the channel has gone deaf.

        A connection that stalls without breaking, or that leads to a demoted primary, delivers no
        messages and reports no error.
        """
        while True:
            listening = asyncio.create_task(self._listen())
            try:
                await self._until_deaf(listening)
            finally:
                await background.end(listening)
            error = None if listening.cancelled() else listening.exception()
            if error is not None and not isinstance(error, (RedisError, OSError)):
                raise error
            await self._note_silence(error)
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _note_silence(self, error: BaseException | None) -> None:
        """Log, once, that the channel has not worked for a while although the store answers.

        Of a store that does not answer the heartbeat logs the state.
        """
        try:
            await self._store.call("PING")
        except StoreUnavailable:
            self._silent_since = None
            return
        now = time.monotonic()
        if error is not None:
            self._cause = f"{type(error).__name__}: {error}"
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= SILENT_SECONDS and not self._is_logged:
            self._is_logged = True
            log.warning(
                "the store's channel for wake-ups has not worked for %.0f s: %s. Live events come "
                "late, with the heartbeats of their streams. Check that the store's user may "
                "subscribe to channels",
                *(now - self._silent_since, self._cause),
            )

    def _note_echo(self) -> None:
        """Note that the channel works."""
        self._silent_since = None
        self._cause = SILENT
        if self._is_logged:
            self._is_logged = False
            log.info("the store's channel for wake-ups works again")

    async def _until_deaf(self, listening: asyncio.Task[None]) -> None:
        """Wait until listening has ended, or does not hear this process's echo."""
        listening.add_done_callback(lambda _: self._heard.set())
        while not listening.done():
            self._heard.clear()
            with contextlib.suppress(StoreUnavailable):
                subscribed = self._subscribed
                # The store's connection leads to the primary.
                receivers = await self._store.call("PUBLISH", self.echo_channel, "")
                if subscribed and not receivers:
                    return  # the channel is on another node, which may get wake-ups, but late
                try:
                    async with asyncio.timeout(DEAF_SECONDS):
                        await self._heard.wait()
                except TimeoutError:
                    return
            await asyncio.wait([listening], timeout=ECHO_SECONDS)

    async def _listen(self) -> None:
        """Wake the streams of each log that the channel names."""
        channels = [keys.wake(tag) for tag in self._store.tags]
        self._subscribed = False
        async with self._store.redis.pubsub(ignore_subscribe_messages=False) as pubsub:
            await pubsub.subscribe(self.echo_channel, *channels)
            echo = self.echo_channel.encode()
            async for message in pubsub.listen():
                if message["channel"] == echo:  # the first channel of the subscription
                    self._subscribed = True
                    self._heard.set()
                    if message["type"] == "message":
                        self._note_echo()
                elif message["type"] == "message":
                    for name in message["data"].split(b"\0"):
                        self._wake(name)
                elif message["type"] == "subscribe":
                    # A first or a new subscription: earlier wake-ups are lost.
                    self._wake_all()
                await asyncio.sleep(0)  # redis-py does not yield while messages are waiting
