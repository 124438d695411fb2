"""Engines on servers with the OpenAI API: requests, streamed completions, errors.

It knows nothing of vLLM's Python package.
"""
