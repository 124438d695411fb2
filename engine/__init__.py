"""Text from models: the vLLM engine or a server in its place, its life cycle, the conversations held with it.

The engine knows nothing of JSON-RPC, MCP, tools or files: it takes messages whose pictures are decoded already,
and returns completions. One thread owns it.
"""
