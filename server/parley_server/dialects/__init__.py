"""Wire formats: pure functions and pure incremental decoders. No I/O, no clock, no asyncio."""
