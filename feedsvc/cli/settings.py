"""Options of commands that work on a store, made from the fields of Config and Limits."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from feedsvc.cli import logging_setup
from feedsvc.cli.durations import Duration, in_units
from feedsvc.config import Config, ConfigError, Group, Limits, Mention, Unit
from feedsvc.core import address
from feedsvc.embedded import EmbeddedStoreError
from feedsvc.errors import StoreUnfit
from feedsvc.server import CannotListen

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Text that stands for a value in ``--help``, for settings that are not numbers.
_METAVARS = {"host": "ADDRESS", "redis_url": "URL", "data_dir": "DIRECTORY"}
#: Units of bytes, largest first.
_BYTE_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))

CONFIG_SETTINGS = tuple(
    setting.name for setting in dataclasses.fields(Config) if setting.name != "limits"
)
LIMITS_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Limits))
_FIELDS = {
    setting.name: setting for kind in (Config, Limits) for setting in dataclasses.fields(kind)
}


def flag_of(name: str) -> str:
    """Return the flag of a setting: ``--heartbeat-interval`` for ``checkpoint_seconds``."""
    return _flag(_FIELDS[name].metadata.get("flag", name))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return f"FEEDSVC_{name.upper()}"


class NumberRange(click.IntRange):
    """A whole number from ``low`` to ``high``."""

    def __init__(self, low: int, high: int, *, in_bytes: bool = False) -> None:
        super().__init__(low, high)
        self.low, self.high = low, high
        bounds = [_in_byte_units(bound) if in_bytes else str(bound) for bound in (low, high)]
        self.range_text = " to ".join(bounds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Fail if it is out of bounds."""
        number = click.INT.convert(value, param, ctx)
        if not self.low <= number <= self.high:
            self.fail(f"must be {self.range_text}, not {number}", param, ctx)
        return number


class SettingOption(click.Option):
    """The option of a setting. It also takes the flag and the variable of earlier versions.

    ``--help`` does not show these, and no environment variable: the variable follows from the flag.
    """

    def __init__(self, *args: Any, setting: "dataclasses.Field[Any]", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setting = setting

    @property
    def group(self) -> Group:
        """The group of the setting in ``--help``."""
        group: Group = self.setting.metadata["group"]
        return group

    @property
    def former_flags(self) -> list[str]:
        """The flags of earlier versions."""
        former = self.setting.metadata.get("former_flag")
        return [_flag(former)] if former else []

    @property
    def default_text(self) -> str | None:
        """The default as a user writes it, or None."""
        if self.required:
            return None
        if isinstance(self.show_default, str):
            return self.show_default
        return _value_text(self.setting, self.setting.default)

    @property
    def range_text(self) -> str | None:
        """The range of a number with units."""
        range_text: str | None = getattr(self.type, "range_text", None)
        return range_text

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Make the parser know the flags of earlier versions too."""
        super().add_to_parser(parser, ctx)
        if self.former_flags:
            parser.add_option(self, self.former_flags, self.name, action="store")

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the flag, and the help with the default and the range."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        facts = [f"default: {self.default_text}"] if self.default_text else []
        facts += [self.range_text] if self.range_text else []
        facts += ["required"] if self.required else []
        return record[0], f"{self.help}  [{'; '.join(facts)}]"

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the flag and the variable: the variable that is set, if any is."""
        del ctx
        variables = list(self.envvar or ())
        variable = next((name for name in variables if os.environ.get(name)), variables[0])
        return f"'{self.opts[0]}' (env var: '{variable}')"


def _value_text(setting: "dataclasses.Field[Any]", value: Any) -> str:
    """Return a value of a setting as a user writes it."""
    unit = setting.metadata.get("unit")
    if unit == Unit.SECONDS:
        return in_units(value)
    if unit == Unit.BYTES:
        return f"{value} = {_in_byte_units(value)}"
    return str(value)


def _in_byte_units(size: int) -> str:
    """Return ``64 MiB`` for 67108864."""
    unit, unit_size = next((pair for pair in _BYTE_UNITS if size >= pair[1]), ("bytes", 1))
    return f"{size / unit_size:g} {unit}"


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
    flag_name = metadata.get("flag", setting.name)
    variable_names = [flag_name, metadata.get("former_flag")]
    arguments = {
        "cls": SettingOption,
        "setting": setting,
        "type": _type(setting),
        "metavar": _metavar(setting),
        "help": metadata["help"],
        "show_default": True,
        "envvar": [_variable(name) for name in variable_names if name],
        "callback": _check_store_url if setting.name == "redis_url" else None,
    }
    if setting.default is not None:
        arguments["default"] = setting.default
    return click.option(_flag(flag_name), setting.name, **(arguments | overrides))


def _type(setting: "dataclasses.Field[Any]") -> Any:
    metadata = setting.metadata
    if metadata.get("unit") == Unit.SECONDS:
        return Duration(metadata["low"], metadata["high"], whole=setting.type is int)
    if "low" in metadata:
        in_bytes = metadata["unit"] == Unit.BYTES
        return NumberRange(metadata["low"], metadata["high"], in_bytes=in_bytes)
    return click.Path(path_type=Path) if setting.name == "data_dir" else click.STRING


def _metavar(setting: "dataclasses.Field[Any]") -> str | None:
    unit = setting.metadata.get("unit")
    if unit == Unit.SECONDS:
        return None
    return _METAVARS.get(setting.name, "BYTES" if unit == Unit.BYTES else "NUMBER")


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


class _WithVariable(click.Option):
    """An option whose errors name its environment variable, which its help leaves out."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the flag and the variable."""
        del ctx
        return f"'{self.opts[0]}' (env var: '{self.envvar}')"


log_level_option = click.option(
    "--log-level",
    cls=_WithVariable,
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="FEEDSVC_LOG_LEVEL",
    help="Least severe messages that the log on stderr has. `warning` logs only what needs your "
    "attention; `debug` is for finding faults.",
)


def log_to_stderr(level: str) -> None:
    """Send log messages of ``level`` and above to stderr."""
    logging_setup.log_to_stderr(level)


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
    except ConfigError as error:
        raise click.ClickException(error.worded(_mention)) from None
    except (EmbeddedStoreError, CannotListen, StoreUnfit) as error:
        raise click.ClickException(str(error)) from None


def _mention(name: str, value: Any) -> Mention:
    return Mention(flag_of(name), _value_text(_FIELDS[name], value))
