"""Options of commands that work on a store, made from the fields of Config and Limits."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from feedsvc.config import Config, ConfigError, Limits
from feedsvc.core import address
from feedsvc.embedded import EmbeddedStoreError
from feedsvc.errors import StoreUnfit
from feedsvc.server import PortBusy

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Help texts of the settings without bounds. ``feedsvc.config`` has those of the other settings.
UNBOUNDED_HELP = {
    "host": "Address to listen on. The service has no authentication: choose an address that only "
    "trusted programs can reach.",
    "redis_url": "Address of the store: redis://, rediss:// or unix://, or "
    "redis+sentinel://host,host/service for the primary that Sentinels name. Prefer the "
    "environment variable for an address with a password: other users of the machine can read "
    "command lines.",
    "data_dir": "Directory of the embedded store. Created if it does not exist.",
}

CONFIG_SETTINGS = tuple(
    setting.name for setting in dataclasses.fields(Config) if setting.name != "limits"
)
LIMITS_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Limits))
_FIELDS = {
    setting.name: setting for kind in (Config, Limits) for setting in dataclasses.fields(kind)
}


def settings_options(*names: str, **overrides: dict[str, Any]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds an option for each named setting to a command.

    ``overrides`` are arguments of ``click.option`` for single settings, by the setting's name.
    """

    def decorate(command: _Command) -> _Command:
        for name in reversed(names):
            command = _option(_FIELDS[name], overrides.get(name, {}))(command)
        return command

    return decorate


def _option(setting: "dataclasses.Field[Any]", overrides: dict[str, Any]) -> Any:
    metadata = setting.metadata
    if "low" in metadata:
        range_type: Any = click.FloatRange if setting.type is float else click.IntRange
        value_type = range_type(metadata["low"], metadata["high"])
    else:
        value_type = click.Path(path_type=Path) if setting.name == "data_dir" else click.STRING
    arguments = {
        "type": value_type,
        "help": metadata.get("help") or UNBOUNDED_HELP[setting.name],
        "show_default": True,
        "envvar": f"FEEDSVC_{setting.name.upper()}",
        "show_envvar": True,
        "callback": _check_store_url if setting.name == "redis_url" else None,
    }
    if setting.default is not None:
        arguments["default"] = setting.default
    return click.option("--" + setting.name.replace("_", "-"), **(arguments | overrides))


def _check_store_url(
    context: click.Context, option: click.Parameter, value: str | None
) -> str | None:
    if option.required and not value:
        raise click.MissingParameter(ctx=context, param=option)
    if value:
        try:
            address.check(value)
        except ValueError:
            # Not the text of the error, which may quote the password.
            raise click.BadParameter(
                "not an address such as redis://host:6379/0, rediss://…, unix:///path or "
                "redis+sentinel://host1:26379,host2:26379/service "
                "(write special characters of a password as %XX)"
            ) from None
    return value or None


log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="FEEDSVC_LOG_LEVEL",
    show_envvar=True,
    help="Least severe messages that the log on stderr has.",
)


def log_to_stderr(level: str) -> None:
    """Send log messages of ``level`` and above to stderr."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def config_from_options(options: dict[str, Any], **settings: Any) -> Config:
    """Return the configuration that options and further settings make. Raise ConfigError."""
    limits = Limits(**_settings_of(Limits, options))
    return Config(**_settings_of(Config, options), limits=limits, **settings)


def _settings_of(kind: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    names = (setting.name for setting in dataclasses.fields(kind))
    return {name: options[name] for name in names if name in options}


@contextmanager
def start_errors_in_one_line() -> Iterator[None]:
    """Turn an error that keeps a server or a worker from starting into one line and status 1."""
    try:
        yield
    except (ConfigError, EmbeddedStoreError, PortBusy, StoreUnfit) as error:
        raise click.ClickException(str(error)) from None
