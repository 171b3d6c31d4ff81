import pytest
import uvloop

from tests.harness.run import run
from tests.streams.run import STREAMS, StreamTotals

#: Histories of each of the seeds.
HISTORIES = 2
SEEDS = ("in ci", "in ci again")


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_streams_keep_their_promises_under_every_fault(seed: str) -> None:
    totals = uvloop.run(run(STREAMS, seed, min_histories=HISTORIES))
    assert isinstance(totals, StreamTotals)
    assert totals.histories == HISTORIES
    assert totals.chains_read_to_the_end > 0
    assert totals.resumptions > 0
    assert totals.faults
