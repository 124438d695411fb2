"""What a release needs beside the wheel: names, icons, the bundle, and the entries of the plugin and the MCP registry.

The server imports nothing of it, and the wheel does not have it. It knows the settings and the table of tools.
"""
