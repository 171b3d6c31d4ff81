import pytest
import uvloop

from tests.streams.run import run

#: Histories of each of the seeds.
HISTORIES = 2
SEEDS = ("in ci", "in ci again")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_streams_keep_their_promises_whatever_breaks(seed: str) -> None:
    totals = uvloop.run(run(seed, histories=HISTORIES))
    assert totals.histories == HISTORIES
    assert totals.whole > 0
    assert totals.replays > 0
    assert totals.faults
