"""The address of a server that a caller gives: checked before any call."""

import ipaddress
import re

#: gRPC's own forms of addresses, of which `dns:` needs a port like HOST:PORT.
_GRPC_SCHEMES = ("dns", "unix", "unix-abstract", "ipv4", "ipv6")
#: Examples in messages.
EXAMPLE = "127.0.0.1:50051"
#: Largest number of a TCP port.
_MAX_PORT = 65_535

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
#: gRPC takes `host:port` too for a scheme and a path, so these schemes are told by their names.
_GRPC_TARGET = re.compile(rf"({'|'.join(_GRPC_SCHEMES)}):(?!\d+$)(.*)", re.DOTALL)
_HOST = re.compile(r"[^\s/?#@\[\]:]+")


class BadAddress(Exception):
    """The text is no address of a server. The message says what to write."""


def check(address: str) -> str:
    """Return the address as gRPC takes it. Raise BadAddress.

    An address is HOST:PORT, with an IPv6 address in brackets, or a target with one of gRPC's own
    schemes: ``dns:///host:port``, ``unix:///path``.
    """
    text = address.strip()
    if not text:
        raise BadAddress(f"is empty: write HOST:PORT, for example {EXAMPLE}")
    if (target := _GRPC_TARGET.fullmatch(text)) is not None:
        scheme, rest = target.groups()
        if scheme == "dns":
            # dns:host:port, dns:///host:port, or dns://name-server/host:port
            _check_host_and_port(re.sub(r"^//[^/]*/", "", rest))
        elif not rest.strip("/"):
            raise BadAddress(f"names nothing after {scheme}:")
        return text
    if (url := _SCHEME.fullmatch(text)) is not None:
        raise _url(*url.groups())
    _check_host_and_port(text)
    return text


def _url(scheme: str, rest: str) -> BadAddress:
    host_and_port = re.split(r"[/?#]", rest, maxsplit=1)[0]
    try:
        _check_host_and_port(host_and_port)
    except BadAddress:
        host_and_port = EXAMPLE
    tls = ": commands do not use TLS" if scheme.lower() == "https" else ""
    return BadAddress(f"write HOST:PORT without {scheme}://: {host_and_port}{tls}")


def _check_host_and_port(text: str) -> None:
    if "/" in text:
        without = text.partition("/")[0] or EXAMPLE
        raise BadAddress(f"write HOST:PORT without a path: {without}")
    if text.startswith("["):
        _check_bracketed(text)
        return
    host, colon, port = text.rpartition(":")
    if _is_ipv6(text):
        raise BadAddress(f"write an IPv6 address in brackets, with the port: [{text}]:50051")
    if _is_ipv6(host):
        raise BadAddress(f"write an IPv6 address in brackets: [{host}]:{port}")
    if not colon:
        if text.isdigit():
            raise BadAddress(f"add the host, for example 127.0.0.1:{text}")
        raise BadAddress(f"add the port, for example {text}:50051")
    if not host:
        raise BadAddress(f"add the host, for example 127.0.0.1{text}")
    if not _HOST.fullmatch(host) or not host.isprintable():
        raise BadAddress(f"{text!r} is not HOST:PORT such as {EXAMPLE}")
    _check_port(port)


def _check_bracketed(text: str) -> None:
    host, bracket, port = text[1:].partition("]")
    if not bracket or not _is_ipv6(host):
        raise BadAddress(f"{text!r} is no IPv6 address in brackets such as [::1]:50051")
    if not port.startswith(":"):
        raise BadAddress(f"add the port, for example [{host}]:50051")
    _check_port(port[1:])


def _check_port(port: str) -> None:
    if not port:
        raise BadAddress("add the port after the colon, for example 50051")
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= _MAX_PORT:
        raise BadAddress(f"the port must be a number from 1 to {_MAX_PORT}, not {port!r}")


def _is_ipv6(text: str) -> bool:
    address, _, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return ":" not in zone
