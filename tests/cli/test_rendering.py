"""What commands print on terminals of 60 and 40 columns, and in pipes."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from feedsvc.cli.rendering import borderless_table, plain, print_lines, print_table
from feedsvc.config import Limits
from tests.dead_letters import store_dead_letters
from tests.serving import Serve, Service, at_ms

from .conftest import Feedsvc
from .terminal import lines_on_terminal

NO_COLOR = {"NO_COLOR": "1"}


@pytest.fixture
async def service(serve: Serve) -> Service:
    """A service without workers, so that queued jobs keep waiting."""
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    return service


async def post_story(service: Service) -> str:
    return await service.post(
        "alice",
        content="Der Kessel pfeift, 水が沸いた, and so it was written down for all to read 🎉",
        publish_time=at_ms(1_577_880_000_000),
    )


STORY = (
    "  2020-01-01  alice posted “Der Kessel pfeift, 水が沸いた, and so it was written down for all "
    "to read 🎉”"
)


async def test_a_feed_is_wrapped_between_words_beside_the_ages(
    service: Service, feedsvc: Feedsvc
) -> None:
    await post_story(service)
    lines = await lines_on_terminal("feed", "bob", server=feedsvc.server, environment=NO_COLOR)
    assert lines == [
        "  2020-01-01  alice posted “Der Kessel pfeift, 水が沸いた,",
        "              and so it was written down for all to read 🎉”",
    ]
    lines = await lines_on_terminal(
        "feed", "bob", server=feedsvc.server, columns=40, environment=NO_COLOR
    )
    assert lines == [
        "  2020-01-01  alice posted “Der Kessel",
        "              pfeift, 水が沸いた, and so",
        "              it was written down for",
        "              all to read 🎉”",
    ]


@pytest.mark.parametrize("variable", ["", "NO_COLOR", "FORCE_COLOR", "COLUMNS"])
async def test_a_pipe_gets_whole_lines_and_escape_codes_only_by_force(
    service: Service, feedsvc: Feedsvc, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "40")
    posted = await post_story(service)
    await store_dead_letters(service, 1)
    ran = await feedsvc("feed", "bob")
    assert ("\x1b" in ran.out) == (variable == "FORCE_COLOR")
    if variable != "FORCE_COLOR":
        assert ran.out == f"{STORY}\n"
    ran = await feedsvc("fanout")
    assert f"{posted} to followers of alice" in ran.out
    assert ("\x1b" in ran.out) == (variable == "FORCE_COLOR")
    ran = await feedsvc("dead-letters")
    assert ran.out.count("\n") == 1


@pytest.mark.parametrize(
    "environment", [NO_COLOR, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}]
)
async def test_a_terminal_without_colours_gets_no_escape_codes(
    service: Service, feedsvc: Feedsvc, environment: dict[str, str]
) -> None:
    lines = await lines_on_terminal("fanout", server=feedsvc.server, environment=environment)
    assert lines == [
        "waiting           0  jobs that no worker has begun",
        "running           0  jobs that a worker has begun",
        "inline            0  jobs that a publish does itself",
        "rate            0/s  followers reached, last minute",
        "lag           0.0 s  age of the oldest job",
        "dead letters      0  failed jobs: see feedsvc dead-letters",
    ]


async def test_fanout_wraps_the_authors_of_the_oldest_job(
    service: Service, feedsvc: Feedsvc
) -> None:
    posted = await service.post("alice", to=["repo:a-rather-long-name", "repo:another-name"])
    lines = await lines_on_terminal("fanout", server=feedsvc.server, environment=NO_COLOR)
    assert lines[5:8] == [
        f"oldest        deliver  {posted} to followers of",
        "                       alice, repo:a-rather-long-name,",
        "                       repo:another-name",
    ]


async def test_dead_letters_are_wrapped_beside_their_ages(
    service: Service, feedsvc: Feedsvc
) -> None:
    (letter_id,) = await store_dead_letters(service, 1)
    lines = await lines_on_terminal("dead-letters", server=feedsvc.server, environment=NO_COLOR)
    assert lines == [
        f"    just now  {letter_id}  deliver 1898765432109876480",
        "              to followers of alice  8 attempts:",
        "              ResponseError: it was not to be",
    ]
    lines = await lines_on_terminal(
        "dead-letters", "--show", letter_id, server=feedsvc.server, environment=NO_COLOR
    )
    assert max(map(len, lines)) <= 60
    assert f"id            {letter_id}" in lines
    assert "followers of  alice" in lines


def screen(columns: int) -> Console:
    return Console(file=io.StringIO(), width=columns, soft_wrap=True, highlight=False)


def shown(out: Console) -> list[str]:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_an_id_that_is_longer_than_its_column_is_not_cut(columns: int) -> None:
    entity = "repo:" + "x" * 200
    table = borderless_table("", "", "")
    table.add_row("oldest", "deliver", Text(entity))
    out = screen(columns)
    print_table(out, table)
    print_lines(out, f"  2020-01-01  {entity}")
    lines = shown(out)
    assert all(len(line) <= columns for line in lines)
    whole = "".join(line.replace(" ", "") for line in lines)
    assert whole == f"oldestdeliver{entity}2020-01-01{entity}"


def test_a_terminal_of_fewer_than_40_columns_wraps_the_lines_itself() -> None:
    out = screen(39)
    print_lines(out, STORY)
    assert shown(out) == [STORY]


def test_characters_that_control_a_terminal_become_spaces() -> None:
    assert plain("a\x1b[2J\x9b\u2028b\u202ec\u2066d\r\n") == "a [2J  b c d  "
    assert plain("水 🎉 e\u0301 👩\u200d👧") == "水 🎉 e\u0301 👩\u200d👧"
