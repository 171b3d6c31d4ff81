"""The README's first program: it runs and prints what the README says."""

import asyncio
import re
import sys
from pathlib import Path

from tests.serving import Service

README = Path(__file__).resolve().parents[2] / "README.md"


async def test_first_python_program_of_the_readme_runs(service: Service) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    program = block.replace("127.0.0.1:50051", f"127.0.0.1:{service.server.port}")
    assert program != block
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().splitlines() == ["alice star linux", "live: star"]
