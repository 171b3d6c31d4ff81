"""Load for the server under test: entities with their data, and processes that call the server."""
