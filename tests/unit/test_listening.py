"""Why a server cannot listen on an address, in words that say what to do."""

import errno
import os
import socket

import pytest

from feedsvc.listening import address_of, explanation, reason_against

NOT_HERE = "203.0.113.1"  # of a block that is reserved for documentation


def test_ipv6_host_stands_in_brackets() -> None:
    assert address_of("127.0.0.1", 1) == "127.0.0.1:1"
    assert address_of("feeds.example.org", 1) == "feeds.example.org:1"
    assert address_of("::1", 1) == "[::1]:1"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 (not bound)
def test_busy_port_names_the_other_program(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert reason_against(host, port) == (
            "another program listens there: stop that program, or give another --port"
        )


def test_address_of_another_machine_is_named() -> None:
    assert reason_against(NOT_HERE, 50_051) == (
        "this machine does not have the address 203.0.113.1: give one of its own in --host, for "
        "example 127.0.0.1 or 0.0.0.0"
    )


@pytest.mark.parametrize("host", ["nowhere.invalid", "two words", "x" * 70 + ".org"])
def test_host_name_that_does_not_resolve_is_named(host: str) -> None:
    assert reason_against(host, 50_051) == (
        f"the host name {host} does not resolve: give an address of this machine in --host, for "
        "example 127.0.0.1 or 0.0.0.0"
    )


def test_low_port_needs_privileges() -> None:
    """Tests may run as root, so the error is made up here."""
    error = OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert explanation(error, "127.0.0.1", 80) == (
        "ports below 1024 need privileges: give a --port from 1024 on"
    )


def test_other_errors_are_quoted() -> None:
    error = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
    assert explanation(error, "127.0.0.1", 50_051) == (
        "the system says 'No buffer space available': give another --host or --port"
    )


def test_free_port_leaves_only_grpcs_own_reasons() -> None:
    assert reason_against("127.0.0.1", 0) == (
        "gRPC does not say why: try again, or give another --host or --port"
    )
