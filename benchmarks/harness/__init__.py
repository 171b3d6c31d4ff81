"""The parts that every benchmark uses: the store and server, turns, figures, and their tables."""
