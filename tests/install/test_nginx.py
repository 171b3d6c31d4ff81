"""deploy/nginx.conf: clients call and subscribe over TLS through a real nginx."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from activityfeed import BlockingFeedClient, FeedClient
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from tests.client.conftest import Client, close
from tests.client.listening import Breaks, Listener, added
from tests.harness.processes import Process, feedsvc_command, find_free_port
from tests.serving import Service, ids_on_page, wait_until

ROOT = Path(__file__).resolve().parents[2]
NGINX = ROOT / ".venv/nginx/usr"


@dataclass(frozen=True)
class Certificate:
    """A certificate that signs itself, and its key."""

    certificate: Path
    key: Path

    @classmethod
    def create(cls, folder: Path, name: str) -> "Certificate":
        made = cls(folder / f"{name}.crt", folder / f"{name}.key")
        subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", *subject),
                *("-out", str(made.certificate), "-keyout", str(made.key)),
            ],
            check=True,
            capture_output=True,
        )
        return made


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """Return the certificate of the proxy; skip the test without nginx, but fail it in CI."""
    if not (NGINX / "sbin/nginx").exists():
        reason = "this test needs nginx: run tests/harness/install-nginx"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return Certificate.create(tmp_path, "server")


@asynccontextmanager
async def nginx(
    folder: Path,
    certificate: Certificate,
    server_port: int | None,
    changes: dict[str, str] | None = None,
) -> AsyncIterator[str]:
    """Run nginx with deploy/nginx.conf and some changes; yield its address."""
    port = find_free_port()
    config = (ROOT / "deploy/nginx.conf").read_text()
    (module,) = NGINX.glob("lib/nginx/modules/ngx_stream_module.so")
    changes = (changes or {}) | {
        "include /etc/nginx/modules-enabled/*.conf;": f"load_module {module}; "
        f"daemon off; pid {folder}/nginx.pid; error_log stderr notice;",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/feedsvc/server.crt": str(certificate.certificate),
        "/etc/feedsvc/server.key": str(certificate.key),
        "worker_processes auto": "worker_processes 1",
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 30000": "worker_connections 100",
    }
    if server_port is not None:
        changes["server 127.0.0.1:50051"] = f"server 127.0.0.1:{server_port}"
    for text, new_text in changes.items():
        assert config.count(text) == 1, text
        config = config.replace(text, new_text)
    (folder / "nginx.conf").write_text(config)
    command = [str(NGINX / "sbin/nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = Process("nginx", command, folder / "nginx.log", {})
    process.launch()
    try:
        await process.wait_for_line("start worker process ")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await wait_until(lambda: has_ended(process))


async def has_ended(process: Process) -> bool:
    return process.has_ended()


@pytest.mark.parametrize("kind", [FeedClient, BlockingFeedClient], ids=["asyncio", "blocking"])
async def test_stream_over_tls_survives_a_restart_of_the_server_behind_the_proxy(
    kind: type[Client], store_url: str, tmp_path: Path, certificate: Certificate
) -> None:
    """A stream stays open beyond nginx's time of silence, because heartbeats come before it."""
    config = {"port": find_free_port(), "checkpoint_seconds": 0.2}
    credentials = grpc.ssl_channel_credentials(certificate.certificate.read_bytes())
    async with AsyncExitStack() as stack:
        service = await Service.start(store_url, **config)
        changes = {"proxy_timeout 10m": "proxy_timeout 1s"}
        address = await stack.enter_async_context(
            nginx(tmp_path, certificate, config["port"], changes)
        )
        client = kind.connect(address, credentials=credentials)
        stack.push_async_callback(close, client)
        breaks = Breaks()
        listener = Listener(client.subscribe("bob", on_break=breaks))
        stack.push_async_callback(listener.close)
        assert await listener.read_event() == ("started", "")
        await service.follow("bob", "alice")
        assert await listener.read_event() == ("followed", "alice")
        for _ in range(10):  # two seconds
            await listener.read_message()
        posted = await service.post("alice")
        assert await listener.read_event() == ("added", posted)
        assert breaks.reasons == []

        await service.stop()
        service = await Service.start(store_url, **config)
        stack.push_async_callback(service.stop)
        posted_later = await service.post("alice")
        assert await listener.read_event() == ("added", posted_later)
        assert breaks.reasons != []


async def test_rolling_restart_behind_the_proxy_fails_no_call_and_loses_no_event(
    store_url: str, tmp_path: Path, certificate: Certificate
) -> None:
    """The servers of a store stop and start in turn, as in an upgrade."""
    ports = [find_free_port(), find_free_port()]
    servers = [
        Process(
            f"server{number}",
            feedsvc_command("serve", "--port", str(port), "--redis-url", store_url),
            tmp_path / f"server{number}.log",
            {},
        )
        for number, port in enumerate(ports)
    ]
    upstreams = "".join(f"server 127.0.0.1:{port} fail_timeout=1s;" for port in ports)
    changes = {"server 127.0.0.1:50051 fail_timeout=1s;": upstreams}
    credentials = grpc.ssl_channel_credentials(certificate.certificate.read_bytes())
    posted: list[str] = []
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            await start_server(server)
        address = await stack.enter_async_context(nginx(tmp_path, certificate, None, changes))
        client = await stack.enter_async_context(
            FeedClient.connect(address, credentials=credentials)
        )
        listener = Listener(client.subscribe("alice"))
        stack.push_async_callback(listener.close)
        assert await listener.read_event() == ("started", "")
        is_over = asyncio.Event()

        async def publish() -> None:
            request = PublishActivityRequest(activity=Activity(actor="alice", verb="post"))
            while not is_over.is_set():
                posted.append((await client.activities.PublishActivity(request)).activity.id)

        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            try:
                for server in servers:
                    count = len(posted)
                    await wait_until(lambda count=count: has_grown(posted, count))
                    server.terminate()
                    await wait_until(lambda server=server: has_ended(server))
                    assert server.status == 0
                    await start_server(server)
            finally:
                is_over.set()
        assert await listener.read_events(len(posted)) == added(posted)


async def start_server(server: Process) -> None:
    server.launch()
    await server.wait_for_line("serving on")


async def has_grown(posted: list[str], count: int) -> bool:
    return len(posted) > count + 20


async def test_proxy_admits_only_callers_with_a_certificate_if_it_is_set_so(
    service: Service, tmp_path: Path, certificate: Certificate
) -> None:
    caller = Certificate.create(tmp_path, "caller")
    changes = {
        "#ssl_client_certificate /etc/feedsvc/callers.crt": (
            f"ssl_client_certificate {caller.certificate}"
        ),
        "#ssl_verify_client on": "ssl_verify_client on",
    }
    posted = await service.post("alice")
    root = certificate.certificate.read_bytes()
    request = GetFeedRequest(user="alice")
    async with nginx(tmp_path, certificate, service.server.port, changes) as address:
        credentials = grpc.ssl_channel_credentials(
            root, caller.key.read_bytes(), caller.certificate.read_bytes()
        )
        async with FeedClient.connect(address, credentials=credentials) as client:
            assert ids_on_page((await client.feeds.GetFeed(request)).page) == [posted]
        for refused in (grpc.ssl_channel_credentials(root), None):
            async with FeedClient.connect(address, credentials=refused) as client:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await client.feeds.GetFeed(request)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_client_refuses_a_proxy_whose_certificate_it_does_not_trust(
    service: Service, tmp_path: Path, certificate: Certificate
) -> None:
    other = Certificate.create(tmp_path, "other")
    credentials = grpc.ssl_channel_credentials(other.certificate.read_bytes())
    async with (
        nginx(tmp_path, certificate, service.server.port) as address,
        FeedClient.connect(address, credentials=credentials) as client,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.feeds.GetFeed(GetFeedRequest(user="alice"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in (caught.value.details() or "")
