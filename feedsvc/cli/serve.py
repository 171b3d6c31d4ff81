"""``feedsvc serve``: its options are made from the fields of Config and Limits."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import uvloop
from redis.connection import parse_url

from feedsvc.config import Config, ConfigError, Limits
from feedsvc.embedded import EmbeddedStoreError
from feedsvc.errors import StoreUnfit
from feedsvc.server import PortBusy, run

log = logging.getLogger(__name__)

#: What the settings without bounds are; the others say it themselves.
HELP = {
    "host": "address to listen on; there is no authentication, so mind who can reach it",
    "redis_url": "the store: redis://, rediss:// or unix://; better given by the variable, which "
    "other users do not see  [default: an embedded store in --data-dir]",
    "data_dir": "directory of the embedded store, made if absent",
}


def _store_url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value:
        try:
            parse_url(value)  # type: ignore[no-untyped-call]
        except ValueError:
            # Not the error's own text, which may quote the password.
            raise click.BadParameter(
                "not an address such as redis://host:6379/0, rediss://… or unix:///path "
                "(special characters of a password are written %XX)"
            ) from None
    return value or None


def _settings() -> Iterator[tuple["dataclasses.Field[Any]", dict[str, Any]]]:
    """Each setting with what click has to know of it."""
    for setting in (*dataclasses.fields(Config), *dataclasses.fields(Limits)):
        rules = setting.metadata
        if "low" in rules:
            bounded: Any = click.FloatRange if setting.type is float else click.IntRange
            kind = bounded(rules["low"], rules["high"])
        elif setting.name in HELP:
            kind = click.Path(path_type=Path) if setting.name == "data_dir" else click.STRING
        else:  # `limits` itself
            continue
        yield setting, {"type": kind, "help": rules.get("help") or HELP[setting.name]}


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for setting, how in reversed(list(_settings())):
        command = click.option(
            "--" + setting.name.replace("_", "-"),
            **how,
            default=setting.default,
            show_default=setting.default is not None,
            envvar=f"FEEDSVC_{setting.name.upper()}",
            show_envvar=True,
            callback=_store_url if setting.name == "redis_url" else None,
        )(command)
    return command


def _of(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    return {f.name: given[f.name] for f in dataclasses.fields(kind) if f.name in given}


@click.command()
@_options
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="FEEDSVC_LOG_LEVEL",
    show_envvar=True,
    help="what is logged, to stderr",
)
def serve(*, log_level: str, **given: Any) -> None:
    """Start the server. It drains on SIGTERM and Ctrl-C.

    Without --redis-url it starts a store of its own, which keeps everything in --data-dir.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        config = Config(**_of(Config, given), limits=Limits(**_of(Limits, given)))

        def ready(port: int) -> None:
            log.info("serving on %s:%d", config.host, port)

        uvloop.run(run(config, ready))
    except (ConfigError, EmbeddedStoreError, PortBusy, StoreUnfit) as error:
        raise click.ClickException(str(error)) from None
