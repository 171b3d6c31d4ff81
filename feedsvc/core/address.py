"""The store's address: one node by its URL, or the node that its Sentinels call primary.

``redis+sentinel://[user:password@]host[:port],host[:port].../service[/database]`` names the
Sentinels and the service that they watch; ``rediss+sentinel://`` speaks TLS with the store. User
and password are the store's; those of the Sentinels are ``?sentinel_username=`` and
``?sentinel_password=``.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.driver_info import DriverInfo

SCHEMES = {"redis+sentinel": False, "rediss+sentinel": True}
"""The schemes of Sentinel addresses; True if the store itself speaks TLS."""
#: The port of a store whose address has no port.
STORE_PORT = 6_379
#: The port of a Sentinel whose address has no port.
SENTINEL_PORT = 26_379
#: Seconds that a Sentinel may take to connect or to answer before the next Sentinel is asked.
SENTINEL_SECONDS = 1.0
#: What connections call themselves. Each connection would read the version of redis-py anew from
#: the disk, which takes 2 ms.
_DRIVER = DriverInfo()


def check(url: str) -> None:
    """Raise ValueError, which does not quote the URL, unless ``url`` is a store's address."""
    try:
        if urlsplit(url).scheme in SCHEMES:
            _sentinels(url)
        else:
            parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        raise ValueError("not a store's address") from None


def client(url: str, **options: Any) -> "Redis":
    """Return a client of the store at ``url``. Raise ValueError, which does not quote the URL."""
    check(url)
    options = {"driver_info": _DRIVER} | options
    if urlsplit(url).scheme not in SCHEMES:
        return Redis.from_url(url, **options)
    watched = _sentinels(url)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        watched.sentinels,
        sentinel_kwargs={
            "socket_timeout": SENTINEL_SECONDS,
            "socket_connect_timeout": SENTINEL_SECONDS,
            "retry": Retry(NoBackoff(), 0),  # the next Sentinel is asked instead
            **watched.sentinel_options,
        },
    )
    pool = SentinelConnectionPool(watched.service, sentinel, **watched.store_options, **options)  # type: ignore[no-untyped-call]
    return Redis(connection_pool=pool)


def of(redis: "Redis") -> str:
    """Return the address of a client's store for the log, without user and password."""
    pool = redis.connection_pool
    options = pool.connection_kwargs
    database = f"/{options['db']}" if options.get("db") else ""
    if isinstance(pool, SentinelConnectionPool):
        sentinels = [client.connection_pool for client in pool.sentinel_manager.sentinels]
        nodes = ",".join(_node(sentinel.connection_kwargs) for sentinel in sentinels)
        return f"{pool.service_name}{database} of the Sentinels {nodes}"
    return f"{options.get('path') or _node(options)}{database}"


def _node(options: dict[str, Any]) -> str:
    host = options.get("host") or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{options.get('port') or STORE_PORT}"


def without_credentials(url: str) -> str:
    """Return the address of a store without user, password and settings, for people to read.

    Raise ValueError, which does not quote the URL, if ``url`` is no store's address.
    """
    check(url)
    scheme = urlsplit(url).scheme
    if scheme in SCHEMES:
        watched = _sentinels(url)
        hosts = ",".join(
            _node(dict(zip(("host", "port"), sentinel, strict=True)))
            for sentinel in watched.sentinels
        )
        return f"{scheme}://{hosts}/{watched.service}/{watched.store_options['db']}"
    options = parse_url(url)  # type: ignore[no-untyped-call]
    database = options.get("db", 0)
    if "path" in options:
        return f"{scheme}://{options['path']}" + (f"?db={database}" if database else "")
    node = _node(options)
    return f"{scheme}://{node}/{database}"


async def close(redis: "Redis") -> None:
    """Close a client that ``client`` made, and its connections to Sentinels."""
    await redis.aclose()
    pool = redis.connection_pool
    await pool.disconnect()  # a pool that was given to a client is not closed with it
    if isinstance(pool, SentinelConnectionPool):
        await pool.sentinel_manager.aclose()


@dataclass(frozen=True, slots=True)
class _Watched:
    """A service that Sentinels watch."""

    sentinels: list[tuple[str, int]]
    service: str
    store_options: dict[str, Any]
    """Options of connections to the store."""
    sentinel_options: dict[str, str]
    """Options of connections to the Sentinels."""


def _sentinels(url: str) -> _Watched:
    """Return the service that a URL with Sentinels names. Raise ValueError if the URL is wrong."""
    parts = urlsplit(url)
    account, _, addresses = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    # urlsplit knows one host only: each address is parsed by itself.
    hosts = [urlsplit(f"//{address}") for address in addresses.split(",")]
    service, _, database = parts.path.removeprefix("/").partition("/")
    query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if not service or not all(host.hostname for host in hosts) or parts.fragment:
        raise ValueError("Sentinels are named by hosts and a service")
    if set(query) - {"sentinel_username", "sentinel_password"}:
        raise ValueError("an unknown setting")
    credentials = {"username": unquote(user), "password": unquote(password)}
    return _Watched(
        [(host.hostname or "", host.port or SENTINEL_PORT) for host in hosts],
        unquote(service),
        {"db": int(database or 0), "ssl": SCHEMES[parts.scheme]}
        | {name: text for name, text in credentials.items() if text},
        {name.removeprefix("sentinel_"): text for name, text in query.items()},
    )
