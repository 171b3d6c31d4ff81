"""CONTRIBUTING's programs for debugging a wrong feed: they run and show the feed."""

import asyncio
import re
import sys
from pathlib import Path

from tests.serving import Service
from tests.stores import Store

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
COMPARE, PRINT_KEYS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


async def output_of(program: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_first_program_compares_a_feed_with_its_query(service: Service) -> None:
    await service.follow("bob", "alice")
    posted = await service.post("alice")
    await service.feed("bob")
    await service.store.lrem(f"{service.tag('bob')}f:bob", 0, posted)
    program = COMPARE.replace("127.0.0.1:50051", f"127.0.0.1:{service.server.port}")
    assert program != COMPARE
    output = await output_of(program, "bob")
    assert "kind: FEED_DIFFERENCE_KIND_MISSING" in output
    assert f'activity_id: "{posted}"' in output
    assert "following_count: 1" in output


async def test_second_program_prints_the_keys_of_a_feed(service: Service, store: Store) -> None:
    await service.follow("bob", "alice")
    posted = await service.post("alice")
    deleted = await service.post("alice")
    await service.delete(deleted, "alice")
    await service.feed("bob")
    program = re.sub(r"unix://[^\"]+", store.url, PRINT_KEYS)
    assert program != PRINT_KEYS
    output = await output_of(program, "bob", "alice")
    assert f"warm feed      [b'0', b'{posted}', b'{deleted}']" in output
    assert f"outbox         [b'0', b'{posted}', b'{deleted}']" in output
    assert re.search(rf"without a body \['.*a:{deleted}'\]", output)
