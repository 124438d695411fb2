"""The tables of resources and prompts, and the methods that read them.

It knows no resource by name.
"""
