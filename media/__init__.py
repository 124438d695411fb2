"""Reads and decodes images, audio and video from paths, URLs, data URLs and base64.

It does not know JSON-RPC, MCP, tools, engines or video servers.
"""
