"""One GPU for two: the chat models of this process and the vLLM-Omni servers of this machine.

It does not know what is generated: it is told of each load and of each generation, and measures memory.
"""
