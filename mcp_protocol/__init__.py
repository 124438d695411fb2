"""The wire: JSON-RPC messages, MCP's revisions, stdio, the queue of tool calls and the table of tools.

The protocol knows nothing of vLLM, pictures or HTTP clients, and nothing of what a tool does: it hands a call to a
handler and turns what comes back into one line.
"""
