"""Every known bug can still be put back: its right text stands in the sources, once."""

import pytest

from tests.mutants.__main__ import ROOT
from tests.mutants.bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_right_text_stands_once_in_the_sources(bug: Bug) -> None:
    for file, right, wrong in bug.changes:
        assert (ROOT / "feedsvc" / file).read_text().count(right) == 1, f"{file}: {right}"
        assert wrong != right


def test_the_tests_that_notice_a_bug_exist() -> None:
    files = {test.partition("::")[0] for bug in BUGS for test in bug.tests}
    assert not {file for file in files if not (ROOT / file).exists()}


def test_no_two_bugs_have_the_same_name() -> None:
    names = [bug.name for bug in BUGS]
    assert len(names) == len(set(names))
