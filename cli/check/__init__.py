"""`--check`: reports whether everything that the settings configure works, one row for each subject.

It uses the services of the tools, and knows nothing of MCP messages.
"""
