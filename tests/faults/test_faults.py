import pytest
import uvloop

from tests.faults.run import FAULTS
from tests.harness.run import run
from tests.harness.stage import Mode

#: Seconds of traffic, faults and looks, for each of the tests.
SECONDS = 10
SEED = "in ci"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", FAULTS.modes)
def test_service_keeps_its_promises_under_every_fault(mode: Mode) -> None:
    totals = uvloop.run(run(FAULTS, SEED, seconds=SECONDS, modes=[mode]))
    assert totals.published > 0
    assert totals.faults
