"""Histograms of latencies. No other module knows the histogram library."""

from collections.abc import Iterable, Iterator
from typing import Any

from hdrh.histogram import HdrHistogram

#: Longest latency of a histogram in microseconds: an hour. Longer latencies count as an hour.
LONGEST = 3_600_000_000
#: Significant digits of a value.
DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
#: Lines of a distribution for each halving of the share of latencies that lie above.
TICKS = 5


class Latencies:
    """A histogram that takes microseconds and gives milliseconds."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(1, LONGEST, DIGITS)

    def record(self, latencies: Iterable[int]) -> None:
        """Count latencies, in microseconds. A latency above ``LONGEST`` counts as ``LONGEST``."""
        for latency in latencies:
            self._histogram.record_value(min(latency, LONGEST))

    @property
    def count(self) -> int:
        """Number of recorded latencies."""
        return int(self._histogram.total_count)

    @property
    def longest(self) -> float:
        """The longest latency, in milliseconds."""
        return float(self._histogram.max_value) / 1000

    def percentiles(self) -> list[float]:
        """Return the values of PERCENTILES; 0 for each if nothing was recorded."""
        values = self._histogram.get_percentile_to_value_dict(list(PERCENTILES))
        # The library gives the upper end of the range that a value fell into.
        return [min(values.get(share, 0) / 1000, self.longest) for share in PERCENTILES]

    def distribution(self) -> Iterator[str]:
        """Yield the lines of an .hgrm file: percentiles in ms, as HdrHistogram's tools write them.

        The library's own writer gives the standard deviation in another unit than the other values.
        """
        yield f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}"
        yield ""
        for step in self._histogram.get_percentile_iterator(TICKS):
            share = step.percentile_level_iterated_to / 100
            inverse = f" {1 / (1 - share):14.2f}" if share < 1 else ""
            value = step.value_iterated_to / 1000
            yield f"{value:12.3f} {share:14.12f} {step.total_count_to_this_value:10d}{inverse}"
        mean, deviation = (
            value / 1000
            for value in (self._histogram.get_mean_value(), self._histogram.get_stddev())
        )
        yield f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]"
        yield f"#[Max     = {self.longest:12.3f}, TotalCount     = {self.count:12d}]"
        buckets, inner = self._histogram.bucket_count, self._histogram.sub_bucket_count
        yield f"#[Buckets = {buckets:12d}, SubBuckets     = {inner:12d}]"
