"""``feedsvc serve`` and ``feedsvc worker``."""

import logging
from typing import Any

import click
import uvloop

from feedsvc import process
from feedsvc.cli.option_groups import GroupedCommand
from feedsvc.cli.settings import (
    CONFIG_SETTINGS,
    LIMITS_SETTINGS,
    NumberRange,
    config_from_options,
    log_level_option,
    log_to_stderr,
    settings_options,
    start_errors_in_one_line,
)

log = logging.getLogger(__name__)


@click.command(cls=GroupedCommand)
@settings_options(
    *CONFIG_SETTINGS,
    *LIMITS_SETTINGS,
    redis_url={"show_default": "an embedded store in --data-dir"},
)
@log_level_option
def serve(*, log_level: str, **options: Any) -> None:
    """Start the server. SIGTERM or Ctrl-C stops it after the calls under way.

    Without --redis-url the server starts a store of its own, which keeps all data in --data-dir.

    The everyday options are enough to begin with. The options below them tune a busy service.

    Each option has an environment variable: FEEDSVC_FEED_CAP is --feed-cap. A duration is a number
    with a unit, such as 500ms, 10s, 5m, 12h or 30d; without a unit it is in seconds.
    """
    log_to_stderr(log_level)
    with start_errors_in_one_line():
        config = config_from_options(options)

        def ready(port: int) -> None:
            log.info("serving on %s:%d", config.host, port)

        uvloop.run(process.run_server(config, ready))


@click.command(cls=GroupedCommand, short_help="Start a process that only delivers.")
@settings_options(
    "redis_url",
    "workers",
    *LIMITS_SETTINGS,
    redis_url={"required": True},
    workers={
        "type": NumberRange(1, 16),
        "help": "Calls to the store that this process makes at a time. Raise it if deliveries lag "
        "(see `feedsvc fanout`) and the store is not busy.",
    },
)
@log_level_option
def worker(*, log_level: str, **options: Any) -> None:
    """Deliver activities that servers of the same store have queued. SIGTERM or Ctrl-C stops it.

    A server has workers of its own (`feedsvc serve --workers`). Start this command to have more
    workers, or to serve with `--workers 0`. Any number of worker processes may run; when one dies,
    another takes over its deliveries.

    The options below the everyday options tune a busy service.

    Each option has an environment variable: FEEDSVC_FEED_CAP is --feed-cap. A duration is a number
    with a unit, such as 500ms, 10s, 5m, 12h or 30d; without a unit it is in seconds.
    """
    log_to_stderr(log_level)
    with start_errors_in_one_line():
        # A worker has no streams. The smallest checkpoint_seconds is valid with every log_lease.
        config = config_from_options(options, checkpoint_seconds=0.01)

        def ready() -> None:
            log.info("working, %d calls at a time", config.workers)

        uvloop.run(process.run_workers(config, ready))
