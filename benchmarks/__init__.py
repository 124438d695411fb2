"""Measures the server side by side with its baselines; the results are in RESULTS.md.

The server is measured from outside, over the pipes of a real process. Only product code that makes the comparison fair
is used: the engine's arguments for the raw engine.
"""
