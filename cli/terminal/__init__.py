"""`call`, `tools`, `chat` and `compile`: the tools in a terminal, in a process that has no client.

It knows the tools only by their table and their schemas; `chat` and `compile` alone know one by name.
"""
