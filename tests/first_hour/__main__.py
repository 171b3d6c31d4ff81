"""``python -m tests.first_hour``: run each command of the documents as printed."""

import sys
import time

import click

from tests.first_hour.documents import DOCUMENTS, ROOT, Block, blocks_of
from tests.first_hour.newcomer import HOST, PORT, CommandFailed, Newcomer, server_listens
from tests.first_hour.recordings import SESSIONS, difference, record

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
    "make gen": "`make drift` is a step of CI",
    ".venv/bin/pytest -n auto": "a part of `make test`",
    ".venv/bin/pytest tests/contract": "a part of `make test`",
}


@click.command()
@click.argument("documents", nargs=-1, type=click.Choice(DOCUMENTS))
@click.option("--record", "writes", is_flag=True, help="Only write the recordings.")
def main(documents: tuple[str, ...], *, writes: bool) -> None:
    """Run each command of DOCUMENTS as printed, in a fresh clone with an empty home.

    Without DOCUMENTS the recordings are made and compared with the committed ones, then all
    documents run, the README first.
    """
    if server_listens():
        raise click.ClickException(
            f"a program listens on {HOST}:{PORT}, where the documents start a server: stop it"
        )
    try:
        with Newcomer() as newcomer:
            if not documents:
                _recordings(newcomer, writes=writes)
            if not writes:
                newcomer.type("make setup")
                for document in documents or DOCUMENTS:
                    for block in blocks_of(document, (ROOT / document).read_text()):
                        _run(newcomer, block)
                    newcomer.end_background()
    except CommandFailed as error:
        raise click.ClickException(str(error)) from None


def _recordings(newcomer: Newcomer, *, writes: bool) -> None:
    """Make all recordings; write them, or exit if one differs from the committed one."""
    differs = False
    for session in SESSIONS:
        start = time.monotonic()
        newcomer.empty_data()
        made = record(newcomer, session)
        path = ROOT / session.path
        if writes:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made)
            click.echo(f"{session.path}: written")
        elif lines := difference(path.read_text() if path.exists() else "", made):
            differs = True
            click.echo(f"{session.path}: differs; `make recordings` writes it anew\n{lines}")
        else:
            click.echo(f"{session.path}: ok, {time.monotonic() - start:.1f} s")
    if differs:
        sys.exit(1)


def _run(newcomer: Newcomer, block: Block) -> None:
    reason = block.not_run or (block.run_by and f"{block.run_by} runs them")
    if reason:
        click.echo(f"{block.location}: left out, {reason}")
        return
    for command, why in ELSEWHERE.items():
        if any((line + " ").startswith(command + " ") for line in block.text.splitlines()):
            click.echo(f"{block.location}: `{command}` left out, {why}")
    start = time.monotonic()
    newcomer.run_block(block, without=tuple(ELSEWHERE))
    click.echo(f"{block.location}: ok, {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
