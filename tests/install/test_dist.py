"""`make dist` builds packages that work where nothing of this repository is installed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(ROOT / "tools/dist", folder, cwd=ROOT)
    return folder


def wheels(dist: Path) -> tuple[Path, Path]:
    """Return the wheels of the client and of the service."""
    (client,) = dist.glob("feedsvc_client-*.whl")
    (service,) = dist.glob("feedsvc-*.whl")
    return client, service


def test_wheels_have_every_file_of_their_package(dist: Path) -> None:
    for wheel, folder, package in zip(
        wheels(dist), (ROOT / "clients/python", ROOT), ("activityfeed", "feedsvc"), strict=True
    ):
        files = {
            path.relative_to(folder).as_posix()
            for path in (folder / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        with zipfile.ZipFile(wheel) as archive:
            assert {name for name in archive.namelist() if ".dist-info/" not in name} == files
    assert "feedsvc/core/lua/publish.lua" in files
    assert "feedsvc/cli/demo.jsonl" in files


def test_same_sources_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    run(ROOT / "tools/dist", tmp_path, cwd=ROOT)
    names = sorted(path.name for path in dist.iterdir())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / name).read_bytes() == (dist / name).read_bytes(), name


@pytest.mark.timeout(600)
def test_wheels_serve_and_call_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    client, service = wheels(dist)
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    programs = tmp_path / "venv/bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")

    run(*pip, client, cwd=tmp_path)
    output = run(
        programs / "python",
        "-c",
        "import activityfeed, importlib.util as u; print(activityfeed.FeedClient.__name__, "
        "u.find_spec('feedsvc'))",
        cwd=tmp_path,
    )
    assert output == "FeedClient None\n"

    run(*pip, client, f"{service}[embedded]", cwd=tmp_path)
    assert run(programs / "feedsvc", "--version", cwd=tmp_path).startswith("feedsvc, version ")
    output = run(programs / "feedsvc", "demo", "--fast", cwd=tmp_path)
    assert "What you saw is gone" in output
    run(programs / "python", "-m", "pip", "check", cwd=tmp_path)
