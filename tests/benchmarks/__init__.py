"""Measures the gateway against the performance budgets: `make bench`, or `python -m tests.benchmarks`."""
