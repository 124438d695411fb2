"""Images and talking videos from a vLLM-Omni server, as jobs, and what that server says of itself.

It knows nothing of the chat engine.
"""
