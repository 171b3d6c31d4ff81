"""The gRPC server: start it on a store, serve the contract, and drain it."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Self

import grpc
from activityfeed.admin.v1 import admin_service_pb2_grpc
from activityfeed.v1 import (
    activity_service_pb2_grpc,
    feed_service_pb2_grpc,
    follow_service_pb2_grpc,
    subscription_service_pb2_grpc,
)
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from feedsvc import listening
from feedsvc.admission import Admission
from feedsvc.batch_requests import Slices
from feedsvc.config import Config
from feedsvc.core import background
from feedsvc.core.engine import Engine
from feedsvc.core.health import Condition, Heartbeat
from feedsvc.core.store_facts import FactsReader
from feedsvc.embedded import EmbeddedStore
from feedsvc.engine_lifecycle import start_engine, sweep_earlier_incarnations
from feedsvc.garbage_collection import freeze_streams
from feedsvc.health_status import SERVICES, set_statuses
from feedsvc.interceptors.admission import AdmissionInterceptor
from feedsvc.interceptors.decoding import DecodingInterceptor
from feedsvc.interceptors.errors import ErrorInterceptor
from feedsvc.interceptors.validation import ValidationInterceptor
from feedsvc.server_status import ServerStatus
from feedsvc.services.activities import ActivityService
from feedsvc.services.admin import AdminService
from feedsvc.services.feeds import FeedService
from feedsvc.services.follows import FollowService
from feedsvc.services.subscriptions import SubscriptionService
from feedsvc.tokens import Tokens

#: Seconds over which a stopping server ends its streams at most.
MAX_STREAM_DRAIN_SECONDS = 5.0
#: Milliseconds in which the other end of a quiet connection must answer a ping.
KEEPALIVE_TIMEOUT_MS = 10_000
#: Milliseconds that must pass between two pings of a client.
CLIENT_PING_MS = 10_000


class CannotListen(Exception):
    """The server cannot listen on its address. The message says why and what to do."""


class Server:
    """A server on a store: ``async with Server(config) as server`` serves on ``server.port``."""

    def __init__(self, config: Config, wait_seconds: float = 0.0) -> None:
        """Wait up to ``wait_seconds`` at the start for a store that is not ready yet."""
        self.exits = False
        """True if the process exits as soon as the server has stopped.

        Then the server does not stop gRPC: a call that arrives while gRPC stops would end with
        CANCELLED, which no retry policy repeats. Until the exit the server answers such a call with
        UNAVAILABLE, and a connection that the exit cuts is UNAVAILABLE to its client too.
        """
        self.config = config
        self._wait_seconds = wait_seconds
        self.port = 0
        """The TCP port that the server listens on, once it has started."""
        self.engine: Engine
        self.status: ServerStatus
        self._grpc: grpc.aio.Server
        self._admission = Admission(
            max_calls=config.max_calls,
            caller_share=config.caller_work,
            max_held_bytes=config.max_held_bytes,
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
        """Wait until cancelled. Raise EmbeddedStoreError if the embedded store ends by itself."""
        if self._embedded is not None:
            await self._embedded.watch()
        else:
            await asyncio.Event().wait()

    async def _start(self) -> None:
        """Start everything from the store up. The stack stops it in the opposite order."""
        config = self.config
        url = config.redis_url
        if url is None:
            self._embedded = await self._stack.enter_async_context(EmbeddedStore(config.data_dir))
            url = self._embedded.url
        self.engine, self._heartbeat = await start_engine(
            url, config, self._stack, self._wait_seconds
        )
        facts = FactsReader(self.engine.store.sibling())
        self._stack.push_async_callback(facts.close)
        self._stack.push_async_callback(self.engine.work.drain)
        self._stack.push_async_callback(self.engine.jobs.close)
        self.engine.live.start(config.checkpoint_seconds, config.stream_seconds)
        self._stack.push_async_callback(self.engine.live.close)
        for task in (
            background.supervised("the sweeper", lambda: sweep_earlier_incarnations(self.engine)),
            background.supervised(
                "the freezer of streams", lambda: freeze_streams(self.engine.live)
            ),
        ):
            self._stack.push_async_callback(background.end, task)
        self.status = ServerStatus(config, self.engine, self._admission, facts)
        await self._listen(Tokens(lambda: self.engine.store.secret))

    async def _listen(self, tokens: Tokens) -> None:
        # gRPC stops a server that no reference holds.
        self._grpc = self._grpc_server()
        self.register(self._grpc, tokens)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, self._grpc)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc
        )
        self._bind()
        await self._grpc.start()
        self._stack.push_async_callback(self._drain, health_servicer)

        async def on_condition(condition: Condition) -> None:
            await self.status.note_condition(condition)
            await set_statuses(health_servicer, condition)

        await self._heartbeat.listen(on_condition)

    def _grpc_server(self) -> grpc.aio.Server:
        config = self.config
        return grpc.aio.server(
            interceptors=[
                ErrorInterceptor(),
                AdmissionInterceptor(self._admission),
                DecodingInterceptor(),
                ValidationInterceptor(),
            ],
            options=[
                # A second server on the port must fail, not share the port unnoticed.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.max_request_bytes),
                # A call that has not begun holds 64 KB of its request here, not megabytes: gRPC
                # would widen the window of every call to what the connection could carry.
                ("grpc.http2.bdp_probe", 0),
                # The server notices and ends a connection whose other end went away silently.
                ("grpc.keepalive_time_ms", int(config.keepalive_seconds * 1000)),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                # Clients may ping too, even while they have no call under way.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", CLIENT_PING_MS),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_MS),
            ],
        )

    def _bind(self) -> None:
        """Bind the address and set the port. Raise CannotListen if that fails."""
        host, port = self.config.host, self.config.port
        address = listening.address_of(host, port)
        try:
            self.port = self._grpc.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if not self.port:
            reason = listening.reason_against(host, port)
            raise CannotListen(f"cannot listen on {address}: {reason}")

    async def _drain(self, health_servicer: health.aio.HealthServicer) -> None:
        """End the streams, let calls under way end, and refuse new calls."""
        config = self.config
        await health_servicer.enter_graceful_shutdown()
        self._admission.drain()
        self.engine.live.drain(min(config.drain_seconds / 2, MAX_STREAM_DRAIN_SECONDS))
        self.engine.jobs.drain()
        # A call that arrives while others end is answered with DRAINING, so that it is retried.
        with suppress(TimeoutError):
            async with asyncio.timeout(config.drain_seconds):
                await self._admission.idle()
                await self.engine.live.idle()
        if not self.exits:
            await self._grpc.stop(None)

    def register(self, server: grpc.aio.Server, tokens: Tokens) -> None:
        """Register the contract's services."""
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
            AdminService(engine, tokens, self.status), server
        )
