"""References to pictures, checked and decoded: files, URLs, data URLs and base64 become upright RGB pictures.

Media knows nothing of JSON-RPC, MCP, tools or engines.
"""
