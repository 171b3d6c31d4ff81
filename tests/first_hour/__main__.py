"""``python -m tests.first_hour``: run each command of the documents as printed."""

import sys
import time

import click

from tests.first_hour.documents import DOCUMENTS, ROOT, Block, blocks_of
from tests.first_hour.newcomer import HOST, PORT, CommandFailed, Newcomer, server_listens

#: Commands that this run leaves out, and who runs them. Each begins a line of a document.
ELSEWHERE = {
    "make test": "a step of CI",
    "make test-data": "a step of CI",
    "make bench": "takes an hour",
    "make bench-quick": "takes minutes",
    "make faults": "takes ten minutes",
    "make streams": "takes ten minutes",
    "make soak": "takes minutes",
    "make test-slow": "takes minutes",
    "make test-mutants": "takes hours",
    ".venv/bin/pytest -n auto": "a part of `make test`",
}


@click.command()
@click.argument("documents", nargs=-1, type=click.Choice(DOCUMENTS))
def main(documents: tuple[str, ...]) -> None:
    """Run each command of DOCUMENTS as printed, in a fresh clone with an empty home.

    Without DOCUMENTS all of them run, the README first. The README's first command installs what
    the others need; a run of other documents alone begins with `make setup`.
    """
    if server_listens():
        raise click.ClickException(
            f"a program listens on {HOST}:{PORT}, where the documents start a server: stop it"
        )
    chosen = documents or DOCUMENTS
    with Newcomer() as newcomer:
        if chosen[0] != "README.md":
            newcomer.type("make setup")
        for document in chosen:
            for block in blocks_of(document, (ROOT / document).read_text()):
                _run(newcomer, block)
            newcomer.end_background()


def _run(newcomer: Newcomer, block: Block) -> None:
    reason = block.not_run or (block.run_by and f"{block.run_by} runs them")
    if reason:
        click.echo(f"{block.location}: left out, {reason}")
        return
    for command, why in ELSEWHERE.items():
        if any((line + " ").startswith(command + " ") for line in block.text.splitlines()):
            click.echo(f"{block.location}: `{command}` left out, {why}")
    start = time.monotonic()
    try:
        newcomer.run_block(block, without=tuple(ELSEWHERE))
    except CommandFailed as error:
        click.echo(error, err=True)
        sys.exit(1)
    click.echo(f"{block.location}: ok, {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
