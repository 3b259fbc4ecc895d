"""Providers of third parties: an example package, installed for real and served by the real gateway."""
