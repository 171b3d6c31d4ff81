"""The command line: a file for each command, or for a few commands that belong together."""

from importlib import import_module

import click

#: Module and function of each command, in the order in which a newcomer meets the commands. A
#: command is imported when it is used: importing the server takes half a second, for which no
#: client command should wait.
_COMMANDS = {
    "demo": "demo.demo",
    "serve": "serve.serve",
    "worker": "serve.worker",
    "publish": "publish.publish",
    "follow": "follow.follow",
    "unfollow": "follow.unfollow",
    "feed": "feed.feed",
    "tail": "tail.tail",
    "import": "import_command.import_command",
    "fanout": "fanout_status.fanout",
    "dead-letters": "dead_letters.dead_letters",
    "bench": "bench.bench",
}


class _Group(click.Group):
    """The group of all commands, which imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(".")
        command: click.Command = getattr(import_module(f"feedsvc.cli.{module}"), name)
        return command


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="feedsvc")
def cli() -> None:
    """Run and use an activity-feed service: gRPC in front, Redis behind.

    Begin with `feedsvc demo`. `feedsvc serve` starts a server, and `feedsvc worker` a process that
    helps servers to deliver. The other commands call a running server.
    """
