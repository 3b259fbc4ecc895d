"""What operators ask a gateway on its admin port. Generated stubs only; see docs/caching.md."""
