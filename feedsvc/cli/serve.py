"""``feedsvc serve`` and ``feedsvc worker``."""

import logging
from typing import Any

import click
import uvloop

from feedsvc import listening, process
from feedsvc.cli.banner import Row, print_banner, server_rows, worker_rows
from feedsvc.cli.durations import DURATION
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
from feedsvc.cli.start_warnings import server_warnings, store_warnings

log = logging.getLogger(__name__)


wait_option = click.option(
    "--wait",
    type=DURATION,
    default="0s",
    show_default=True,
    envvar="FEEDSVC_WAIT",
    help="Time to wait at the start for a store that cannot be reached or still loads its data. "
    "Raise it if the store may start after this process. A wrong password or an unfit store fails "
    "at once.",
)


@click.command(cls=GroupedCommand)
@settings_options(
    *CONFIG_SETTINGS,
    *LIMITS_SETTINGS,
    redis_url={"show_default": "an embedded store in --data-dir"},
)
@wait_option
@log_level_option
def serve(*, wait: float, log_level: str, **options: Any) -> None:
    """Start the server. SIGTERM or Ctrl-C stops it after the calls under way.

    Without --redis-url the server starts a store of its own, which keeps all data in --data-dir.

    The everyday options are enough to begin with. The options below them tune a busy service.

    Each option has an environment variable: FEEDSVC_FEED_CAP is --feed-cap. A duration is a number
    with a unit, such as 500ms, 10s, 5m, 12h or 30d; without a unit it is in seconds.
    """
    log_to_stderr(log_level)
    with start_errors_in_one_line():
        config = config_from_options(options)

        def ready(port: int, survey: process.Survey) -> None:
            log.info("serving on %s", listening.address_of(config.host, port))
            _show("is ready", server_rows(config, port, survey))
            _warn(server_warnings(config, survey))

        uvloop.run(process.run_server(config, ready, wait))


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
@wait_option
@log_level_option
def worker(*, wait: float, log_level: str, **options: Any) -> None:
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

        def ready(survey: process.Survey) -> None:
            log.info("working, %d calls at a time", config.workers)
            _show("delivers", worker_rows(config, survey))
            _warn(store_warnings(config, survey))

        uvloop.run(process.run_workers(config, ready, wait))


def _show(doing: str, rows: list[Row]) -> None:
    """Print the banner, unless the log is to have only warnings."""
    if log.isEnabledFor(logging.INFO):
        print_banner(doing, rows)


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        log.warning("%s", warning)
