"""The parts of ``feedsvc import``: files, their formats, batches of requests, and the import."""
