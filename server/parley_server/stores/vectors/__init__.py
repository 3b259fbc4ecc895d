"""Vectors by partition, and the nearest ones to a vector within one: `base.py` says what they do, `index.py` does it.

A partition (`partition.py`) holds its vectors in blocks (`block.py`) that are looked through row by row, and above some
size in a graph as well (`graph.py`). What gateways share of them lies in a store of groups (`packed.py`).
"""
