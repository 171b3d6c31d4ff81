"""`tools/setup` says what it installs, and why it cannot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: A fake Python: the version and the modules that it claims are those of the test.
FAKE = """#!/bin/sh
case "$2" in
*version_info*) exit {is_old} ;;
*ensurepip*) exit {lacks_venv} ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder that is all of PATH: it has a shell's programs and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh", "env", "basename"):
        path = shutil.which(name)
        assert path is not None
        (folder / name).symlink_to(path)
    return folder


def add_python(programs: Path, name: str, *, old: bool = False, venv: bool = True) -> Path:
    path = programs / name
    path.write_text(FAKE.format(is_old=int(old), lacks_venv=int(not venv)))
    path.chmod(0o755)
    return path


def find_python(programs: Path, **environment: str) -> tuple[int, str, str]:
    process = subprocess.run(
        [ROOT / "tools/find-python"],
        env={"PATH": str(programs), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


def test_python_3_11_is_preferred_to_newer_ones(programs: Path) -> None:
    for name in ("python3.13", "python3", "python3.11"):
        add_python(programs, name)
    assert find_python(programs) == (0, f"{programs / 'python3.11'}\n", "")


def test_newer_python_is_used_where_3_11_is_missing(programs: Path) -> None:
    add_python(programs, "python3", old=True)
    add_python(programs, "python3.13")
    assert find_python(programs) == (0, f"{programs / 'python3.13'}\n", "")


def test_machine_without_a_suitable_python_is_refused_in_one_sentence(programs: Path) -> None:
    add_python(programs, "python3", old=True)
    assert find_python(programs) == (
        1,
        "",
        (
            "setup: feedsvc needs Python 3.11 or newer, and none of python3.11 python3.12 "
            "python3.13 python3.14 python3 is on PATH; install it, or name it with "
            "`make PYTHON=<path>`\n"
        ),
    )


def test_python_that_the_caller_names_must_exist_and_be_new_enough(programs: Path) -> None:
    add_python(programs, "python3.11")
    path = add_python(programs, "ancient", old=True)
    assert find_python(programs, PYTHON=str(path)) == (
        1,
        "",
        f"setup: PYTHON names {path}, which is not Python 3.11 or newer\n",
    )
    assert find_python(programs, PYTHON="python9") == (
        1,
        "",
        "setup: PYTHON names python9, which this machine does not have\n",
    )


def test_python_without_venv_is_refused_with_the_package_to_install(programs: Path) -> None:
    add_python(programs, "python3.12", venv=False)
    assert find_python(programs) == (
        1,
        "",
        (
            "setup: python3.12 has no venv module; install it (on Debian and Ubuntu: apt-get "
            "install python3.12-venv)\n"
        ),
    )


def run_setup(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run a copy of `tools/setup`, whose `.venv` is this Python."""
    shutil.copytree(ROOT / "tools", folder / "tools")
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    process = subprocess.run(
        [folder / "tools/setup", *arguments],
        env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


def test_missing_network_is_named_in_one_sentence(tmp_path: Path) -> None:
    code, output, errors = run_setup(
        tmp_path, "no-package-of-this-name", PIP_INDEX_URL="http://127.0.0.1:1/", PIP_RETRIES="1"
    )
    assert code == 1
    assert output == "setup: installing no-package-of-this-name into .venv\n"
    assert errors.splitlines()[-1] == (
        "setup: pip cannot reach the package index; connect this machine to the network, or name "
        "another index with PIP_INDEX_URL"
    )


def test_other_failures_show_what_pip_said(tmp_path: Path) -> None:
    code, _, errors = run_setup(tmp_path, "./no-folder-of-this-name")
    assert code == 1
    assert "no-folder-of-this-name" in errors
    assert errors.splitlines()[-1] == (
        "setup: pip failed; its messages are above, and `make setup` tries again"
    )
