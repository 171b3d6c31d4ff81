"""``feedsvc completion``."""

import click
from click.shell_completion import get_completion_class

#: Environment variable with which the script of a shell asks `feedsvc` for completions.
_VARIABLE = "_FEEDSVC_COMPLETE"


@click.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and choices of feedsvc.

    Install it once; a new shell then uses it. bash needs version 4.4.

    \b
    bash  echo 'source <(feedsvc completion bash)' >> ~/.bashrc
    zsh   echo 'source <(feedsvc completion zsh)' >> ~/.zshrc
          (after the line that runs compinit)
    fish  feedsvc completion fish > ~/.config/fish/completions/feedsvc.fish

    Try it: feedsvc fe, then the Tab key.
    """  # noqa: D301 (click's mark: keep these lines)
    script = get_completion_class(shell)
    if script is None:
        raise click.ClickException(f"this version of click has no completion for {shell}")
    root = context.find_root()
    made = script(root.command, {}, root.info_name or "feedsvc", _VARIABLE)
    # Not `source`, which runs bash for its version: the script may be for another machine.
    click.echo(made.source_template % made.source_vars())
