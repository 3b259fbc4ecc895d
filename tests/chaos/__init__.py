"""What comes of every fault under every policy, counted at the provider: over real sockets, all at once.

`table.py` says what must come of it. Single faults with every dialect are the business of `tests/faults`.
"""
