"""Prompts and results of both engines: rendering, choices, structured outputs, forced tool calls.

It does not generate text.
"""
