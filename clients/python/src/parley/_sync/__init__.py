"""The synchronous client. All but `wire.py` is generated from `_async`: see tools/generate_sync.py."""
