"""`feedsvc tail` goes on after a restart of its server."""

from tests.cli.conftest import Feedsvc, ended
from tests.serving import Serve


async def test_tail_survives_a_restart(serve: Serve) -> None:
    there, here = await serve(), await serve()
    port = here.server.port
    process = await Feedsvc(f"127.0.0.1:{port}").start("tail", "bob", "--count", 3)
    assert process.stdout is not None
    assert process.stderr is not None
    assert b"Live" in await process.stdout.readline()
    await here.post("bob", content="one")
    assert "“one”" in (await process.stdout.readline()).decode()
    await here.stop()
    assert (await process.stderr.readline()).startswith(b"Trying again: ")
    await there.post("bob", content="two")
    again = await serve(port=port)
    await again.post("bob", content="three")
    ran = await ended(process)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[-1] for line in ran.out.splitlines()] == ["“two”", "“three”"]


async def test_tail_of_no_server() -> None:
    ran = await Feedsvc("127.0.0.1:1")("tail", "bob")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: no server answers at 127.0.0.1:1")
