import pytest
import uvloop

from tests.faults.run import MODES, run
from tests.faults.stage import Mode

#: Of traffic, faults and rest, for each of the tests.
SECONDS = 10
SEED = "in ci"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", MODES)
def test_it_keeps_its_promises_whatever_breaks(mode: Mode) -> None:
    totals = uvloop.run(run(SECONDS, SEED, [mode]))
    assert totals.published > 0
    assert totals.faults
