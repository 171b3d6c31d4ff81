"""The command line: a file for each command, or for a few commands that belong together."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import click

from feedsvc.cli import outline
from feedsvc.cli.exit_statuses import INTERRUPTED

#: Module and function of each command, by the parts of `feedsvc --help` and in the order in which a
#: newcomer meets the commands. A command is imported when it runs: importing gRPC takes a third of
#: a second and importing the server a whole one, for which no other command should wait.
SECTIONS = {
    "Start": {
        "demo": "demo.demo",
        "serve": "serve.serve",
        "worker": "serve.worker",
    },
    "Use": {
        "publish": "publish.publish",
        "follow": "follow.follow",
        "unfollow": "follow.unfollow",
        "feed": "feed.feed",
        "tail": "tail.tail",
        "import": "import_command.import_command",
    },
    "Operate": {
        "status": "status.status",
        "fanout": "fanout_status.fanout",
        "dead-letters": "dead_letters.dead_letters",
        "verify": "stored_feeds.verify",
        "rebuild": "stored_feeds.rebuild",
        "stats": "stored_feeds.stats",
        "delivery": "delivery.delivery",
        "bench": "bench.bench",
        "completion": "completion.completion",
    },
}
_COMMANDS = {
    name: function
    for commands in SECTIONS.values()
    for name, function in commands.items()
    if find_spec(f"feedsvc.cli.{function.partition('.')[0]}") is not None
}


class _Group(click.Group):
    """The group of all commands, which imports a command when it runs.

    The list of commands and the completion of a shell use the outlines of commands instead.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        outlined = outline.command(cmd_name) if ctx.resilient_parsing else None
        return outlined or load(cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)  # click itself would print an empty line

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        width = max(map(len, _COMMANDS))
        for section, commands in SECTIONS.items():
            rows = [
                (name.ljust(width), (outline.command(name) or load(name)).short_help)
                for name in commands
                if name in _COMMANDS
            ]
            with formatter.section(section):
                formatter.write_dl([(name, text or "") for name, text in rows])


def load(name: str) -> click.Command:
    """Import a command and return it."""
    module, _, function = _COMMANDS[name].partition(".")
    command: click.Command = getattr(import_module(f"feedsvc.cli.{module}"), function)
    return command


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="feedsvc")
@click.pass_obj
def cli(on_begin: Callable[[], None] | None) -> None:
    """Run and use an activity-feed service: gRPC in front, Redis behind.

    Begin with `feedsvc demo`. `feedsvc serve` starts a server, and `feedsvc worker` a process that
    helps servers to deliver. The other commands call a running server.
    """
    if on_begin is not None:
        on_begin()
