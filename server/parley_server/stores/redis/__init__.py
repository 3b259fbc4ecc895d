"""Stores in a Redis-compatible server, shared by all gateways that know it. The only code that imports redis."""
