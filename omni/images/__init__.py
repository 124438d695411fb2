"""Images from a vLLM-Omni server: profiles, parameters, generation, previews.

It knows nothing of MCP.
"""
