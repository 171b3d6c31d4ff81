"""The outline of each command: help, options and choices, without importing the command.

`feedsvc --help` and the completion of a shell read the outlines, because importing all commands
takes seconds of processor time. tools/command-outline writes them into outline.json.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import click

#: Name of the file with the outlines, beside this module.
FILE_NAME = "outline.json"


def command(name: str) -> click.Command | None:
    """Return a command made from its outline, which cannot run; None without an outline."""
    described = _outlines().get(name)
    if described is None:
        return None
    return click.Command(
        name,
        params=[_parameter(parameter) for parameter in described["parameters"]],
        short_help=described["help"],
    )


def of(full: click.Command) -> dict[str, Any]:
    """Return the outline of a command, as outline.json holds it."""
    return {
        "help": full.short_help or f"{_first_sentence(full.help or '').rstrip('.')}.",
        "parameters": [_describe(parameter) for parameter in full.params],
    }


@cache
def _outlines() -> dict[str, Any]:
    text = files("feedsvc.cli").joinpath(FILE_NAME).read_text("utf-8")
    outlines: dict[str, Any] = json.loads(text)
    return outlines


def _describe(parameter: click.Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {"names": [*parameter.opts, *parameter.secondary_opts]}
    if isinstance(parameter.type, click.Choice):
        described["choices"] = [str(choice) for choice in parameter.type.choices]
    if isinstance(parameter.type, click.Path):
        described["path"] = "file" if parameter.type.file_okay else "dir"
    if not isinstance(parameter, click.Option):
        return {"argument": True, "nargs": parameter.nargs} | described
    described["help"] = _first_sentence(parameter.help or "")
    if parameter.is_flag:
        described["flag"] = True
    if parameter.multiple:
        described["multiple"] = True
    return described


def _parameter(described: dict[str, Any]) -> click.Parameter:
    value_type: Any = None
    if "choices" in described:
        value_type = click.Choice(described["choices"], case_sensitive=False)
    if "path" in described:
        value_type = click.Path(file_okay=described["path"] == "file")
    if described.get("argument"):
        return click.Argument(
            described["names"], nargs=described["nargs"], type=value_type, required=False
        )
    return click.Option(
        described["names"],
        type=value_type,
        is_flag=described.get("flag") or None,
        multiple=described.get("multiple", False),
        help=described["help"],
    )


def _first_sentence(text: str) -> str:
    """Return the first sentence, on one line, without its full stop if others follow."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(":")
