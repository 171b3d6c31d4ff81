"""What commands that work on a store share: options made from the fields of Config and Limits."""

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

#: What the settings without bounds are; the others say it themselves.
HELP = {
    "host": "address to listen on; there is no authentication, so mind who can reach it",
    "redis_url": "the store: redis://, rediss:// or unix://, or "
    "redis+sentinel://host,host/service for the primary that Sentinels name; better given by the "
    "variable, which other users do not see",
    "data_dir": "directory of the embedded store, made if absent",
}


def _store_url(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if option.required and not value:
        raise click.MissingParameter(ctx=context, param=option)
    if value:
        try:
            address.check(value)
        except ValueError:
            # Not the error's own text, which may quote the password.
            raise click.BadParameter(
                "not an address such as redis://host:6379/0, rediss://…, unix:///path or "
                "redis+sentinel://host1:26379,host2:26379/service "
                "(special characters of a password are written %XX)"
            ) from None
    return value or None


def options(*names: str, **special: dict[str, Any]) -> Callable[[_Command], _Command]:
    """Options for these settings; ``special`` is what click is told otherwise of one, by name."""

    def decorate(command: _Command) -> _Command:
        for name in reversed(names):
            command = _option(_SETTINGS[name], special.get(name, {}))(command)
        return command

    return decorate


def _option(setting: "dataclasses.Field[Any]", special: dict[str, Any]) -> Any:
    rules = setting.metadata
    if "low" in rules:
        bounded: Any = click.FloatRange if setting.type is float else click.IntRange
        kind = bounded(rules["low"], rules["high"])
    else:
        kind = click.Path(path_type=Path) if setting.name == "data_dir" else click.STRING
    how = {
        "type": kind,
        "help": rules.get("help") or HELP[setting.name],
        "show_default": True,
        "envvar": f"FEEDSVC_{setting.name.upper()}",
        "show_envvar": True,
        "callback": _store_url if setting.name == "redis_url" else None,
    }
    if setting.default is not None:
        how["default"] = setting.default
    return click.option("--" + setting.name.replace("_", "-"), **(how | special))


log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="FEEDSVC_LOG_LEVEL",
    show_envvar=True,
    help="what is logged, to stderr",
)


def log_to_stderr(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def config_of(given: dict[str, Any], **more: Any) -> Config:
    """The configuration that the options come to. Raises ConfigError."""
    limits = Limits(**_of(Limits, given))
    return Config(**_of(Config, given), limits=limits, **more)


def _of(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    return {f.name: given[f.name] for f in dataclasses.fields(kind) if f.name in given}


@contextmanager
def refusals() -> Iterator[None]:
    """What keeps a server or a worker from its work becomes one line."""
    try:
        yield
    except (ConfigError, EmbeddedStoreError, PortBusy, StoreUnfit) as error:
        raise click.ClickException(str(error)) from None


OF_CONFIG = tuple(one.name for one in dataclasses.fields(Config) if one.name != "limits")
OF_LIMITS = tuple(one.name for one in dataclasses.fields(Limits))
_SETTINGS = {one.name: one for kind in (Config, Limits) for one in dataclasses.fields(kind)}
