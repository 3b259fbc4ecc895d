"""The Parley gateway: one gRPC API for every language model."""

__version__ = "0.1.0"
