"""Videos from vLLM-Omni servers, from an image and a voice or from words: models, parameters, servers, generation.

It knows nothing of MCP.
"""
