"""Every known bug can still be put back: its right text is in the sources exactly once."""

import re

import pytest

from tests.mutants.__main__ import ROOT
from tests.mutants.bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_right_text_of_a_bug_is_in_the_sources_once(bug: Bug) -> None:
    for file, right, wrong in bug.changes:
        assert (ROOT / "feedsvc" / file).read_text().count(right) == 1, f"{file}: {right}"
        assert wrong != right


def test_tests_that_notice_a_bug_exist() -> None:
    """Each is a folder, a file, or a test in a file, with or without its parameters."""
    for path, _, name in {test.partition("::") for bug in BUGS for test in bug.tests}:
        assert (ROOT / path).exists()
        if name:
            test = name.partition("[")[0].rpartition("::")[2]
            assert re.search(rf"\b{test}\b", (ROOT / path).read_text()), f"{path} has no {test}"


def test_no_two_bugs_have_the_same_name() -> None:
    names = [bug.name for bug in BUGS]
    assert len(names) == len(set(names))
