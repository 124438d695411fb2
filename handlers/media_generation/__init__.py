"""Images, videos and speech from vLLM-Omni servers, as jobs, and what the servers say of themselves.

It knows nothing of the chat engine.
"""
