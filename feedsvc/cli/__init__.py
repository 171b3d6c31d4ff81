"""The command line: one file a command, or a small group of them."""

import click

from feedsvc.cli.bench import bench
from feedsvc.cli.demo import demo
from feedsvc.cli.fanout import dead_letters, fanout
from feedsvc.cli.load import load
from feedsvc.cli.read import feed, tail
from feedsvc.cli.serve import serve, worker
from feedsvc.cli.write import follow, publish, unfollow

_COMMANDS = (
    demo,
    serve,
    worker,
    publish,
    follow,
    unfollow,
    feed,
    tail,
    load,
    fanout,
    dead_letters,
    bench,
)


class _AsListed(click.Group):
    """Lists its commands in the order in which one meets them, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)


@click.group(
    cls=_AsListed,
    commands={str(command.name): command for command in _COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="feedsvc")
def cli() -> None:
    """An activity-feed service: gRPC in front, Redis behind.

    Begin with `feedsvc demo`. `feedsvc serve` starts a server; the commands below it are clients,
    but for `worker`, which helps servers to deliver.
    """
