"""Endurance: mixed load and faults for half an hour, and what the gateway holds meanwhile and afterwards.

The gateway is the real process with everything on: callers with keys, limits, breakers, metrics, traces of one call in
a hundred. Behind it are the mock upstream in C, whose answers are checked letter by letter, and a server of mock models
that fail, stall, cut and talk nonsense. Every kind of call has its ways to end; any other one is an unexpected error.
"""
