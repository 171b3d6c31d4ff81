"""The harness of `tests.faults` and `tests.streams`, which breaks a whole service at random.

`stage` starts the processes, `faults` breaks them, `traffic` calls the service, `play` combines
these three into a `history`, `validation` judges the history, `story` explains a violation, and
`run` and `command` repeat all of this by a seed.
"""
