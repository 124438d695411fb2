"""The command line: options, `--check`, configuration entries for MCP clients, and commands for a terminal.

Only `vllm_server.py` imports it.
"""
