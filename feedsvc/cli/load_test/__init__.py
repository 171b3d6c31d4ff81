"""The load of ``feedsvc bench``: its plan, its users, the calls, and what became of them.

The processes of `generator` call and take times; the command's own process prepares, starts them
together (`processes`), and makes of their batches what is reported (`results`).
"""
