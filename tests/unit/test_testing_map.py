"""docs/testing.md: every path on the page exists, and every module has a row in its map."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()
#: Top-level directories whose paths the page names.
DIRECTORIES = "benchmarks|clients|deploy|docs|feedsvc|protos|tests|tools|\\.ci"


def test_every_path_on_the_page_exists() -> None:
    paths = set(re.findall(rf"(?<![\w./])(?:{DIRECTORIES})/[\w./-]*\w", PAGE))
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)", PAGE))
    assert len(paths) > 50
    assert not {path for path in paths if not (ROOT / path).exists()}
    assert not {link for link in links if not (ROOT / "docs" / link).exists()}


def test_every_module_has_a_row_with_tests() -> None:
    modules = {
        str(module.relative_to(ROOT))
        for module in (ROOT / "feedsvc").rglob("*.py")
        if module.name != "__init__.py"
    }
    rows = re.findall(r"^\| `(feedsvc/[^`]+\.py)` \| `tests/", PAGE, re.MULTILINE)
    assert sorted(row for row in rows if rows.count(row) > 1) == []
    assert modules - set(rows) == set()
