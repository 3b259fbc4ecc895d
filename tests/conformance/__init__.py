"""Holds the dialects against recorded exchanges with real providers: `python -m tests.conformance RECORDINGS`."""
