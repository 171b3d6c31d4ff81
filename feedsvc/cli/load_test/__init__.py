"""The load generator of ``feedsvc bench``, which the benchmarks use too.

A `plan` says what a run does. `run` prepares users (`population`, `preparation`), starts the
processes that make calls (`processes`, `generator`, `traffic`, `streams`) and collects their
`measurements` into `results`, which `report` prints.

`pacing`, `bulk`, `child`, `clock` and `progress` know nothing of a plan. With them the benchmarks
make loads of their own.
"""
