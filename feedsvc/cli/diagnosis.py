"""The answer to a failed call: what listens at an address, if it is not feedsvc."""

import os
import re
import socket
import ssl

#: Seconds that a connection, and its first bytes, may take.
PROBE_SECONDS = 1.0
#: The beginning of an HTTP/2 connection, as each gRPC client sends it, with an empty SETTINGS.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
#: The frame type in the first frame of an HTTP/2 server, and the first byte of a TLS alert.
_SETTINGS_TYPE, _TLS_ALERT = 4, 0x15
#: Environment variables by which gRPC sends calls through a proxy.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def diagnose(server: str) -> str:
    """Return one line that says why no call reaches a feedsvc at an address, and what to do.

    Connect to the address and look at the first bytes of the answer, for two seconds at most and
    for each IP address of the host.
    """
    try:
        answer = _first_bytes(server)
    except socket.gaierror:
        return f"the host name {_host(server)} does not resolve: check --server"
    except (OSError, ValueError):
        return (
            f"no server answers at {server}: start one with `feedsvc serve`, "
            "or name another with --server"
        )
    if answer is None:
        return f"the server at {server} accepts connections but does not answer: try again"
    if len(answer) > _SETTINGS_TYPE - 1 and answer[3] == _SETTINGS_TYPE:
        return _unreachable(server)
    kind = "something else"
    if answer.startswith(b"HTTP/1") or answer.lstrip().startswith(b"<"):
        kind = "an HTTP server"
    elif re.match(rb"[-+][A-Z]+", answer):
        kind = "a Redis or Valkey store"
    elif answer[:1] == bytes([_TLS_ALERT]) or (not answer and _speaks_tls(server)):
        return (
            f"what answers at {server} is not feedsvc: it is a TLS server, "
            "and commands do not use TLS; name the address of feedsvc with --server"
        )
    return (
        f"what answers at {server} is not feedsvc: it is {kind}; "
        "name the address of feedsvc with --server"
    )


def _unreachable(server: str) -> str:
    for name in _PROXY_VARIABLES:
        if os.environ.get(name):
            return (
                f"no answer from {server} through the proxy of ${name}: "
                f"set no_proxy={_host(server)} if the server needs no proxy"
            )
    return f"the server at {server} does not answer calls now: try again"


def _first_bytes(server: str) -> bytes | None:
    """Return the first bytes of an answer, or None if none comes in time. Raise OSError."""
    with _connect(server) as connection:
        try:
            connection.sendall(_HELLO)
            return connection.recv(64)
        except TimeoutError:
            return None
        except ConnectionError:
            return b""


def _speaks_tls(server: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # old servers too: the connection carries nothing
    try:
        with _connect(server) as connection, context.wrap_socket(connection):
            return True
    except ssl.SSLError as error:
        # A TLS server refuses this client in the words of TLS.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _connect(server: str) -> socket.socket:
    if (path := _unix_path(server)) is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PROBE_SECONDS)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection((_host(server), _port(server)), PROBE_SECONDS)


def _unix_path(server: str) -> str | None:
    scheme, _, path = server.partition(":")
    if scheme == "unix-abstract":
        return "\0" + path
    return path.removeprefix("//") if scheme == "unix" else None


def _host(server: str) -> str:
    return _host_and_port(server).rpartition(":")[0].strip("[]")


def _port(server: str) -> int:
    return int(_host_and_port(server).rpartition(":")[2])


def _host_and_port(server: str) -> str:
    """Return host:port of an address. Of several addresses (``ipv4:a:1,b:2``) return the first."""
    target = re.sub(r"^(dns|ipv4|ipv6):(//[^/]*/)?(?=.*:\d)", "", server)
    return target.split(",")[0]
