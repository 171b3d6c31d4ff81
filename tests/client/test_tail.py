"""`feedsvc tail` over restarts of its server."""

from tests.cli.conftest import Feedsvc, ended
from tests.serving import Serve


async def test_tail_resumes_after_a_restart_of_its_server(serve: Serve) -> None:
    other, server = await serve(), await serve()
    port = server.server.port
    process = await Feedsvc(f"127.0.0.1:{port}").start("tail", "bob", "--count", 3)
    assert process.stdout is not None
    assert process.stderr is not None
    assert b"Live" in await process.stdout.readline()
    await server.post("bob", content="one")
    assert "“one”" in (await process.stdout.readline()).decode()
    await server.stop()
    assert (await process.stderr.readline()).startswith(b"Trying again: ")
    await other.post("bob", content="two")
    restarted = await serve(port=port)
    await restarted.post("bob", content="three")
    ran = await ended(process)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[-1] for line in ran.out.splitlines()] == ["“two”", "“three”"]


async def test_tail_without_a_server_fails() -> None:
    ran = await Feedsvc("127.0.0.1:1")("tail", "bob")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: no server answers at 127.0.0.1:1")
