"""Tool calls that a client follows as tasks of MCP.

It does not know what a job is: a handler hands over work that goes on after its call.
"""
