"""MCP's resources, prompts and completions, as rows of tables.

Nothing here generates text.
"""
