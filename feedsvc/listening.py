"""The address that a server listens on, and the reason why a server cannot listen there."""

import errno
import socket

#: Ports below this one need privileges, on most systems.
FIRST_FREE_PORT = 1_024


def address_of(host: str, port: int) -> str:
    """Return a host and a port as one address; an IPv6 host stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason_against(host: str, port: int) -> str:
    """Return why no server can listen on a host and a port, and what to do.

    gRPC does not say why. So a plain socket, which is closed at once, is bound to each address of
    the host.
    """
    try:
        candidates = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        return (
            f"the host name {host} does not resolve: give an address of this machine in --host, "
            "for example 127.0.0.1 or 0.0.0.0"
        )
    for family, kind, protocol, _, address in candidates:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # Connections that a stopped server has closed do not keep a server from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
        except OSError as error:
            return explanation(error, host, port)
    return "gRPC does not say why: try again, or give another --host or --port"


def explanation(error: OSError, host: str, port: int) -> str:
    """Return what an error of a socket means for a host and a port, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return "another program listens there: stop that program, or give another --port"
        case errno.EADDRNOTAVAIL:
            return (
                f"this machine does not have the address {host}: give one of its own in --host, "
                "for example 127.0.0.1 or 0.0.0.0"
            )
        case errno.EACCES if 0 < port < FIRST_FREE_PORT:
            return (
                f"ports below {FIRST_FREE_PORT} need privileges: give a --port from "
                f"{FIRST_FREE_PORT} on"
            )
        case _:
            return f"the system says {error.strerror!r}: give another --host or --port"
