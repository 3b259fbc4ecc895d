"""All that goes wrong between the gateway and a provider, over real sockets, for every dialect.

`faults.py` is the table of what goes wrong and how the call must end; the wires are those of `tests/contract/cases`.
"""
