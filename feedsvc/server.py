"""Builds, starts and drains the server: the only file that knows the life cycle."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import grpc
from activityfeed.admin.v1 import admin_service_pb2, admin_service_pb2_grpc
from activityfeed.v1 import (
    activity_service_pb2,
    activity_service_pb2_grpc,
    feed_service_pb2,
    feed_service_pb2_grpc,
    follow_service_pb2,
    follow_service_pb2_grpc,
    subscription_service_pb2,
    subscription_service_pb2_grpc,
)
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from feedsvc.admission import Admission
from feedsvc.batches import Slices
from feedsvc.config import Config
from feedsvc.core import background
from feedsvc.core.engine import Engine
from feedsvc.core.health import Condition, Heartbeat
from feedsvc.core.live import Live
from feedsvc.core.store import Store
from feedsvc.core.sweep import sweep
from feedsvc.embedded import EmbeddedStore
from feedsvc.errors import StoreUnavailable, StoreUnfit
from feedsvc.interceptors.admission import AdmissionInterceptor
from feedsvc.interceptors.decoding import DecodingInterceptor
from feedsvc.interceptors.errors import ErrorInterceptor
from feedsvc.interceptors.validation import ValidationInterceptor
from feedsvc.services.activities import ActivityService
from feedsvc.services.admin import AdminService
from feedsvc.services.feeds import FeedService
from feedsvc.services.follows import FollowService
from feedsvc.services.subscriptions import SubscriptionService
from feedsvc.tokens import Tokens

log = logging.getLogger(__name__)

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (activity_service_pb2, "ActivityService"),
        (follow_service_pb2, "FollowService"),
        (feed_service_pb2, "FeedService"),
        (subscription_service_pb2, "SubscriptionService"),
        (admin_service_pb2, "AdminService"),
    )
)
#: Those that can do nothing useful while the store refuses writes.
WRITING = frozenset(
    name
    for name in SERVICES
    if name.endswith(("ActivityService", "FollowService", "SubscriptionService"))
)
#: Seconds over which a stopping server ends its streams at the most.
SPREAD_SECONDS = 5.0
#: Seconds between looks at how many streams there are; the growth after which they are spared.
SPARE_SECONDS, SPARE_GROWTH, SPARE_STREAMS = 1.0, 1.2, 200
#: When the garbage collector looks at what was made. By Python's own thresholds (700, 10, 10) it
#: held up a server that tells 10,000 streams for tens of milliseconds each second.
COLLECT = 10_000, 20, 50
#: Milliseconds in which the other end of a quiet connection has to answer a ping; and between pings
#: that clients may send.
KEEPALIVE_TIMEOUT_MS, CLIENT_PING_MS = 10_000, 10_000
#: Seconds between rounds of tidying up.
TIDY_SECONDS = 5.0


class PortBusy(Exception):
    """The address cannot be listened on; the message says which and what to do."""


class Server:
    """A server on a store: ``async with Server(config) as server`` serves on ``server.port``."""

    def __init__(self, config: Config) -> None:
        self.exits = False
        """Whether the process exits at once when the server has stopped.

        gRPC itself is then not stopped: a call that arrives while gRPC stops ends with CANCELLED,
        which nobody retries. Up to the exit it is answered with UNAVAILABLE, and clients take
        connections that the exit cuts for the same.
        """
        self.config = config
        self.port = 0
        self.engine: Engine
        self._grpc: grpc.aio.Server
        self._admission = Admission(
            calls=config.max_calls, share=config.caller_work, held=config.max_held_bytes
        )
        self._heartbeat: Heartbeat
        self._embedded: EmbeddedStore | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def watch(self) -> None:
        """Raises EmbeddedStoreError if the embedded store, where there is one, ends by itself."""
        if self._embedded is not None:
            await self._embedded.watch()
        else:
            await asyncio.Event().wait()

    async def _start(self) -> None:
        """Starts from the store up; the stack stops in the opposite order."""
        config = self.config
        url = config.redis_url
        if url is None:
            self._embedded = await self._stack.enter_async_context(EmbeddedStore(config.data_dir))
            url = self._embedded.url
        self.engine, self._heartbeat = await _engine(url, config, self._stack)
        self._stack.push_async_callback(self.engine.work.drain)
        self._stack.push_async_callback(self.engine.jobs.close)
        self.engine.live.start(config.checkpoint_seconds, config.stream_seconds)
        self._stack.push_async_callback(self.engine.live.close)
        for task in (
            background.supervised("tidying up", lambda: _tidy(self.engine)),
            background.supervised("sparing streams", lambda: _spare(self.engine.live)),
        ):
            self._stack.push_async_callback(background.end, task)
        await self._listen(Tokens(lambda: self.engine.store.secret))

    async def _listen(self, tokens: Tokens) -> None:
        config = self.config
        server = grpc.aio.server(
            interceptors=[
                ErrorInterceptor(),
                AdmissionInterceptor(self._admission),
                DecodingInterceptor(),
                ValidationInterceptor(),
            ],
            options=[
                # A second server on the port must fail, not share it in silence.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.max_request_bytes),
                # A call that has not begun holds 64 KB of its request here, not megabytes: gRPC
                # would widen the window of every call by what the connection could carry.
                ("grpc.http2.bdp_probe", 0),
                # A connection whose other end is gone without a word is noticed and ended.
                ("grpc.keepalive_time_ms", int(config.keepalive_seconds * 1000)),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                # Clients may ask as often, also while no call is under way.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", CLIENT_PING_MS),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_MS),
            ],
        )
        self._grpc = server  # a server that nobody refers to is stopped
        self.register(server, tokens)
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        address = f"{config.host}:{config.port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise PortBusy(
                f"cannot listen on {address}: is another server there? Give another --port"
            )
        await server.start()

        async def stop() -> None:
            await healthy.enter_graceful_shutdown()
            self._admission.drain()
            self.engine.live.drain(min(config.drain_seconds / 2, SPREAD_SECONDS))
            self.engine.jobs.drain()
            # Calls that arrive until what was begun has been answered are told to come again.
            with suppress(TimeoutError):
                async with asyncio.timeout(config.drain_seconds):
                    await self._admission.idle()
                    await self.engine.live.idle()
            if not self.exits:
                await server.stop(None)

        self._stack.push_async_callback(stop)

        async def tell(condition: Condition) -> None:
            for name in ("", *SERVICES):
                await healthy.set(name, _status(name, condition))

        await self._heartbeat.listen(tell)

    def register(self, server: grpc.aio.Server, tokens: Tokens) -> None:
        """Registers the contract's services."""
        engine, slices = self.engine, Slices()
        activity_service_pb2_grpc.add_ActivityServiceServicer_to_server(
            ActivityService(engine, tokens, slices), server
        )
        follow_service_pb2_grpc.add_FollowServiceServicer_to_server(
            FollowService(engine, tokens, slices), server
        )
        feed_service_pb2_grpc.add_FeedServiceServicer_to_server(FeedService(engine, tokens), server)
        subscription_service_pb2_grpc.add_SubscriptionServiceServicer_to_server(
            SubscriptionService(engine, tokens, self.config), server
        )
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(engine, tokens), server
        )


def _status(service: str, condition: Condition) -> Any:
    """Whether a service can do its work; the empty name stands for the server."""
    serves = condition is Condition.READY or (condition.reads and service not in WRITING)
    states = health_pb2.HealthCheckResponse
    return states.SERVING if serves else states.NOT_SERVING


async def _engine(url: str, config: Config, stack: AsyncExitStack) -> tuple[Engine, Heartbeat]:
    """The core on a store, its workers at work, and what looks after it; the stack stops all."""
    store = Store.at(url, config.limits)
    stack.push_async_callback(store.close)
    await store.open()
    aside = store.sibling()
    engine = Engine.on(store, aside, store.sibling())
    carrying = background.supervised("carrying notes of retention", engine.retention.run)
    stack.push_async_callback(background.end, carrying)
    if config.workers:
        with suppress(StoreUnavailable):  # they greet it later then
            await aside.call("TIME")
        engine.workers.start(config.workers)
        stack.push_async_callback(engine.workers.close)
    heartbeat = Heartbeat(store)
    stack.push_async_callback(
        background.end, background.supervised("looking after the store", heartbeat.run)
    )
    return engine, heartbeat


async def _tidy(engine: Engine) -> None:
    """Take away what is left of earlier incarnations of the store."""
    swept = [""] * len(engine.store.tags)
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        try:
            if swept != engine.store.incarnations:
                swept = list(engine.store.incarnations)
                log.info("took away %d feeds of earlier incarnations", await sweep(engine.store))
        except StoreUnavailable:
            swept = []
        except Exception:
            log.exception("tidying up failed; trying again")


async def _spare(live: Live) -> None:
    """Has the garbage collector pass over open streams, and look rarely.

    A full collection looks at all that a process holds: a quarter of a second with 5,000 streams,
    in which nobody is served. As streams come, what there is is frozen; when half of them have gone
    it is looked at again.
    """
    spared, before = 0, gc.get_threshold()
    gc.set_threshold(*COLLECT)
    try:
        while True:
            await asyncio.sleep(SPARE_SECONDS)
            if live.streams > spared * SPARE_GROWTH + SPARE_STREAMS:
                gc.collect()
                gc.freeze()
                spared = live.streams
            elif live.streams < spared / 2:
                gc.unfreeze()
                spared = 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def run_workers(config: Config, ready: Callable[[], None] | None = None) -> None:
    """Works on deliveries until SIGTERM or SIGINT. Once it works, ``ready`` is called.

    Raises StoreUnfit if it cannot start.
    """
    if config.redis_url is None:
        raise StoreUnfit("workers need the store that servers use: name it by --redis-url")
    stopping = _stopping()
    async with AsyncExitStack() as stack:
        await _engine(config.redis_url, config, stack)
        if ready is not None:
            ready()
        await stopping.wait()
        log.info("stopping")


def _stopping() -> asyncio.Event:
    """Is set by SIGTERM and SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def run(config: Config, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit. Once it serves, ``ready`` gets the port.

    Raises StoreUnfit, EmbeddedStoreError and PortBusy if it cannot start, and EmbeddedStoreError if
    its store ends.
    """
    stopping = _stopping()
    async with Server(config) as server:
        if ready is not None:
            ready(server.port)
        waiting = {asyncio.create_task(stopping.wait()), asyncio.create_task(server.watch())}
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            await _cancelled(task)
        log.info("stopping")
        for task in done:
            task.result()
        server.exits = True
    logging.shutdown()
    os._exit(0)  # with gRPC still answering, see `exits`
