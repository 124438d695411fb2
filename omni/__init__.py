"""Pictures and videos from a vLLM-Omni server: its HTTP API, what its models need, jobs, and the files they write.

Omni knows nothing of JSON-RPC, MCP, tools or the chat engine; of media it uses the checking of pictures.
"""
