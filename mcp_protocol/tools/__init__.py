"""The table of tools: schemas, arguments and results.

It knows no tool by name.
"""
