"""Images and videos from vLLM-Omni servers: the HTTP API, model profiles, jobs, and output files.

It knows nothing of JSON-RPC, MCP, tools or the chat engine. It uses `media` to check and shrink images.
"""
