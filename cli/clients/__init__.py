"""Entries for MCP clients: one table of clients, `--print-config`, `--install` and the install links of the README.

It knows where each client keeps its configuration and in which form, and nothing of the server that is started.
"""
