"""The README tells the truth: its first page of Python runs, and prints what it should."""

import asyncio
import re
import sys
from pathlib import Path

from tests.serving import Service

README = Path(__file__).resolve().parents[2] / "README.md"


async def test_first_page_of_python(service: Service) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    program = block.replace("127.0.0.1:50051", f"127.0.0.1:{service.server.port}")
    assert program != block
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await running.communicate()
    assert running.returncode == 0
    assert printed.decode().splitlines() == ["alice star linux", "live: star"]
