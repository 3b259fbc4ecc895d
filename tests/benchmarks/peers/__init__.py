"""The gateways that services would otherwise run, from their packages, before the same mock upstream."""
