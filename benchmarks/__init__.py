"""Benchmarks of the service beside its alternatives and limits: ``python -m benchmarks --help``.

Each module of this package is a scenario, and so is the package `live`; its docstring says exactly
what is compared. `harness` has what all scenarios use, `load` makes the load, and `servers` has the
servers that are measured. The load generator is that of ``feedsvc bench``, `feedsvc.cli.load_test`.
"""

import os

# gRPC's own log would write across the progress bars. gRPC reads this setting at its first import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
