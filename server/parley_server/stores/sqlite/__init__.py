"""Stores in a file of this machine, which outlive the process and are shared by all that open it."""
