"""References to media, checked and decoded: files, URLs, data URLs and base64 become pictures, sound and video.

Media knows nothing of JSON-RPC, MCP, tools, engines or the servers that make videos.
"""
