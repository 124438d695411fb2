"""Relevance checks and analyses of images, many at once or a single one.

It knows the engine's interface, not whether the engine is local or remote.
"""
