"""Measures the service beside its alternatives and its limits: ``python -m benchmarks --help``."""

import os

# gRPC's own log would write across the progress; it is read when grpc is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
