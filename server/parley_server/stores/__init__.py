"""Shelves: what outlives a call is kept here, behind small interfaces, in memory or in a shared store."""
