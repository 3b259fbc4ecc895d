"""Wires: how bytes reach a provider and come back."""
