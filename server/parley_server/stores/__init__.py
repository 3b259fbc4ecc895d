"""Shelves: what outlives a call is kept here, behind small interfaces, in memory, in a file or in a shared store.

`keyvalue.py`, `groups.py` and `streams.py` say what stores do; each folder holds one way to do it: `memory/`,
`sqlite/`, `redis/`.
"""
