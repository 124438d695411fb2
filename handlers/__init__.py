"""The tools: plain functions `(arguments, call, services) -> result`, a package for each family.

`tool_table` lists them all, `offered_tools` those that the settings select. No handler reads or writes a message.
"""
