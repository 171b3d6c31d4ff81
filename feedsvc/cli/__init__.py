"""The command line: one file a command, or a small group of them."""

from importlib import import_module

import click

#: Where each command is, in the order in which a newcomer meets them. A command is imported when it
#: is asked for: the server's parts take half a second, for which no client has to wait.
_COMMANDS = {
    "demo": "demo.demo",
    "serve": "serve.serve",
    "worker": "serve.worker",
    "publish": "write.publish",
    "follow": "write.follow",
    "unfollow": "write.unfollow",
    "feed": "read.feed",
    "tail": "read.tail",
    "import": "load.load",
    "fanout": "fanout.fanout",
    "dead-letters": "fanout.dead_letters",
    "bench": "bench.bench",
}


class _Group(click.Group):
    """The commands, imported one by one."""

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
    """An activity-feed service: gRPC in front, Redis behind.

    Begin with `feedsvc demo`. `feedsvc serve` starts a server; the commands below it are clients,
    but for `worker`, which helps servers to deliver.
    """
