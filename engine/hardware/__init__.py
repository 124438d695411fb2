"""Measures the memory and the GPUs of this machine.

It does not know engines.
"""
