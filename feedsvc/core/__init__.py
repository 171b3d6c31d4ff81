"""The fan-out core: knows the store, knows nothing of gRPC."""
