"""Callers' JSON Schemas: validates them, bounds their numbers, and compiles them in a sandboxed child.

It does not know engines.
"""
