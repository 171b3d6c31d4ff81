"""The files in `deploy`, as far as they can be checked without Docker and without a boot."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import Process, find_free_port

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("this test needs systemd-analyze")
    unit = (ROOT / "deploy/feedsvc.service").read_text()
    assert "ExecStart=/opt/feedsvc/bin/feedsvc serve" in unit
    path = tmp_path / "feedsvc.service"
    path.write_text(unit.replace("/opt/feedsvc/bin/feedsvc", sys.executable))
    process = subprocess.run([program, "verify", path], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def dockerfile_lines(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


def prepare_build(folder: Path) -> dict[str, str]:
    """Copy the sources, and make the Python of the image; return the environment of its shell."""
    for package in ("feedsvc", "clients/python"):
        shutil.copytree(
            ROOT / package,
            folder / "src" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / "src" / name)
    (folder / "opt").mkdir()
    subprocess.run([sys.executable, "-m", "venv", folder / "python"], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return environment | {"PATH": f"{folder / 'python/bin'}:{environment['PATH']}"}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_steps_of_the_dockerfile_install_a_server_that_reports_its_health(
    tmp_path: Path,
) -> None:
    """Without Docker: the build's commands run in folders of the test instead of `/`."""
    folders = {path: str(tmp_path / path[1:]) for path in ("/src", "/dist", "/opt/feedsvc")}
    environment = prepare_build(tmp_path)
    *steps, add_user = dockerfile_lines("RUN")
    assert add_user.startswith("useradd ")
    for step in steps:
        command = re.sub("|".join(folders), lambda match: folders[match[0]], step)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", command),
            cwd=tmp_path / "src",
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    port = find_free_port()
    settings = {
        "FEEDSVC_HOST": "127.0.0.1",
        "FEEDSVC_PORT": str(port),
        "FEEDSVC_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": "",
    }
    feedsvc = str(tmp_path / "opt/feedsvc/bin/feedsvc")
    server = Process("server", [feedsvc, "serve"], tmp_path / "log", settings)
    server.launch()
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (.*)$", DOCKERFILE, re.MULTILINE)
    python, *arguments = json.loads(check.replace("50051", str(port)))
    program = tmp_path / "opt/feedsvc/bin" / python
    try:
        await server.wait_for_line("serving on")
        process = await asyncio.create_subprocess_exec(program, *arguments, env=environment)
        assert await process.wait() == 0
    finally:
        server.kill()
    process = await asyncio.create_subprocess_exec(program, *arguments, env=environment)
    assert await process.wait() == 1
