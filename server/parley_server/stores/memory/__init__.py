"""Stores in the memory of this process: gone when it ends, and nobody else's."""
