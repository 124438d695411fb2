"""Decoding functions that the sandbox's children run; libraries are imported before a memory limit applies."""
