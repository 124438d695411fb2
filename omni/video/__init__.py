"""Talking videos from vLLM-Omni servers: models, parameters, servers, generation.

It knows nothing of MCP.
"""
