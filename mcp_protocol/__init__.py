"""The wire: JSON-RPC messages, MCP's revisions, stdio, the queue of calls, the tables of tools, resources and prompts.

The protocol knows nothing of vLLM, pictures or HTTP clients, and nothing of what a tool does: it hands a call to a
handler and turns what comes back into one line.
"""
