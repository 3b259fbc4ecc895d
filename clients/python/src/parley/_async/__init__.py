"""The asynchronous client. `_sync` is generated from this folder, but for its `wire.py`: see tools/generate_sync.py."""
