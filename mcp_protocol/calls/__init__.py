"""Calls between arrival and response: the call, the queue and its scheduling.

It knows no tool by name.
"""
