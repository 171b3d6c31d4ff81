"""``feedsvc serve`` and ``feedsvc worker``."""

import logging
from typing import Any

import click
import uvloop

from feedsvc import process
from feedsvc.cli.settings import (
    HELP,
    OF_CONFIG,
    OF_LIMITS,
    config_of,
    log_level_option,
    log_to_stderr,
    options,
    refusals,
)

log = logging.getLogger(__name__)

EMBEDDED = f"{HELP['redis_url']}  [default: an embedded store in --data-dir]"


@click.command()
@options(*OF_CONFIG, *OF_LIMITS, redis_url={"help": EMBEDDED})
@log_level_option
def serve(*, log_level: str, **given: Any) -> None:
    """Start the server. It drains on SIGTERM and Ctrl-C.

    Without --redis-url it starts a store of its own, which keeps everything in --data-dir.
    """
    log_to_stderr(log_level)
    with refusals():
        config = config_of(given)

        def ready(port: int) -> None:
            log.info("serving on %s:%d", config.host, port)

        uvloop.run(process.run_server(config, ready))


@click.command(short_help="Start a process that only delivers.")
@options(
    "redis_url",
    "workers",
    *OF_LIMITS,
    redis_url={"required": True},
    workers={"help": "calls that it makes at a time; at least 1"},
)
@log_level_option
def worker(*, log_level: str, **given: Any) -> None:
    """Deliver what servers on the same store have queued. It stops on SIGTERM and Ctrl-C.

    Servers have workers of their own (`feedsvc serve --workers`); this is for more of them, or for
    servers without. Any number may run; what one leaves undone when it dies, another takes over.
    The limits must be those of the servers.
    """
    log_to_stderr(log_level)
    with refusals():
        # Of streams, of which there are none here: it goes with any log_lease.
        config = config_of(given, checkpoint_seconds=0.01)
        if not config.workers:
            raise click.UsageError("--workers must be at least 1: without any it does nothing")

        def ready() -> None:
            log.info("working, %d calls at a time", config.workers)

        uvloop.run(process.run_workers(config, ready))
